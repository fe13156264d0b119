//! Records everything that this process logs, from every crate and at every level, and its panic messages.

use std::{
    io,
    sync::{Arc, LazyLock, Mutex, Once},
};

use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

static LOGGED: LazyLock<Arc<Mutex<Vec<u8>>>> = LazyLock::new(Arc::default);

/// Starts to record. Calling it again changes nothing.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_writer(Writer)
            .init();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            LOGGED.lock().unwrap().extend(panic.to_string().into_bytes());
            before(panic);
        }));
    });
}

/// The length of the record in bytes.
pub(crate) fn len() -> usize {
    LOGGED.lock().unwrap().len()
}

/// The record after its first `length` bytes.
pub(crate) fn since(length: usize) -> String {
    String::from_utf8_lossy(&LOGGED.lock().unwrap()[length..]).into_owned()
}

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Writer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}
