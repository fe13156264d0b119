//! One connection to one server: TCP, TLS, sign-in, commands.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, Value, aio::MultiplexedConnection, cmd};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
};

use super::{
    address::Host,
    failure::{Failure, describe_io},
    reply_limits::{LimitedStream, OwedReplies},
    script::Script,
    sign_in::SignIn,
};

/// Commands that wait to be written. More than that would wait longer than a command may take.
const QUEUE: usize = 1024;

/// A connection. Clones share it; commands are pipelined.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    connection: MultiplexedConnection,
    owed: OwedReplies,
    _driver: Arc<Driver>,
}

/// The task that reads and writes. It ends with the last clone of its connection.
#[derive(Debug)]
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Connects, without signing in. The caller bounds the time.
    pub(super) async fn open(host: &Host, sign_in: &SignIn) -> Result<Self, Failure> {
        let away = |problem: String| Failure::Away(format!("{host}: {problem}"));
        let tcp = TcpStream::connect((host.name.as_str(), host.port))
            .await
            .map_err(|error| away(describe_io(&error)))?;
        tcp.set_nodelay(true).map_err(|error| away(describe_io(&error)))?;
        match sign_in.tls(host).await.map_err(away)? {
            None => Self::over(tcp).await,
            Some((connector, name)) => {
                let tls = connector.connect(name, tcp).await;
                Self::over(tls.map_err(|error| away(format!("TLS: {}", describe_io(&error))))?).await
            }
        }
    }

    /// A connection over a stream.
    pub(super) async fn over<S>(stream: S) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let owed = OwedReplies::default();
        let stream = LimitedStream::new(stream, owed.clone());
        // The time is bounded above, for all steps of an operation together.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(QUEUE);
        // Nothing is sent here: the sign-in is a command like others, so that its error can be told apart.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| Failure::of_connection(&error))?;
        let driver = Arc::new(Driver(tokio::spawn(driver).abort_handle()));
        Ok(Self { connection, owed, _driver: driver })
    }

    /// Signs in, if there is a password, and chooses the database.
    pub(super) async fn sign_in(&self, sign_in: &SignIn, database: u32) -> Result<(), Failure> {
        if let Some(command) = sign_in.command().await {
            self.send(&command).await?;
        }
        if database != 0 {
            self.send(cmd("SELECT").arg(database)).await?;
        }
        Ok(())
    }

    /// Sends a command and waits for its reply. An error reply is an error.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        self.owed.add();
        match self.connection.clone().send_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(Failure::of_reply(&error)),
            Ok(value) => Ok(value),
            Err(error) => Err(Failure::of_connection(&error)),
        }
    }

    /// Runs a script about these keys.
    pub(super) async fn run(
        &self,
        script: &Script,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Value, Failure> {
        match self.send(&script.by_hash(keys, arguments)).await {
            // A new or flushed engine does not know the script yet. It keeps the text.
            Err(Failure::NoScript) => self.send(&script.by_text(keys, arguments)).await,
            reply => reply,
        }
    }

    /// Whether the server replies within `limit`.
    pub(super) async fn ping(&self, limit: Duration) -> Result<(), Failure> {
        match tokio::time::timeout(limit, self.send(&cmd("PING"))).await {
            Ok(reply) => reply.map(drop),
            Err(_) => Err(Failure::Away(format!("no reply within {limit:?}"))),
        }
    }
}
