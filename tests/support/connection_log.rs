//! The log of the fault proxy: an entry for each connection, which a test can read or wait for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::wire::Request;

/// One connection in the log.
#[derive(Clone, Debug)]
pub struct Connection {
    pub opened: Instant,
    /// `None` until a whole request was read.
    pub request: Option<Request>,
    /// How many faults were applied to it.
    pub faults: usize,
    /// Body bytes that the proxy wrote to its socket, including those that the kernel still holds.
    pub body_sent: u64,
    /// `None` while it is open.
    pub closed: Option<(Instant, ClosedBy)>,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The client closed first: before the end, or after the last byte (then `body_sent` is all) and before the proxy
    /// itself saw that it was the last.
    Client,
    /// The response was sent, or a fault ended it.
    Proxy,
}

/// The connections of a proxy in the order they were opened.
#[derive(Clone, Default)]
pub struct ConnectionLog(Arc<watch::Sender<Vec<Connection>>>);

impl ConnectionLog {
    /// All connections so far.
    pub fn connections(&self) -> Vec<Connection> {
        self.0.borrow().clone()
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.0.borrow().iter().filter_map(|connection| connection.request.clone()).collect()
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        self.0.borrow().iter().filter(|connection| connection.closed.is_none()).count()
    }

    /// How many faults were applied. A test that expects to survive one should also check that there was one.
    pub fn faults(&self) -> usize {
        self.0.borrow().iter().map(|connection| connection.faults).sum()
    }

    /// Waits until the connections meet `condition`, and returns them; fails the test after `limit`.
    pub async fn wait_for(
        &self,
        limit: Duration,
        condition: impl Fn(&[Connection]) -> bool,
    ) -> Vec<Connection> {
        let mut changes = self.0.subscribe();
        let waited =
            tokio::time::timeout(limit, changes.wait_for(|connections| condition(connections))).await;
        match waited {
            Ok(connections) => connections.expect("the sender lives in self").clone(),
            Err(_) => panic!("the condition is not met after {limit:?}: {:#?}", self.connections()),
        }
    }

    pub(super) fn begin(&self) -> Entry {
        let mut index = 0;
        self.0.send_modify(|connections| {
            index = connections.len();
            let opened = Instant::now();
            connections.push(Connection { opened, request: None, faults: 0, body_sent: 0, closed: None });
        });
        Entry { log: self.clone(), index }
    }
}

/// One connection's entry in the log.
pub struct Entry {
    log: ConnectionLog,
    index: usize,
}

impl Entry {
    pub(super) fn update(&self, change: impl FnOnce(&mut Connection)) {
        self.log.0.send_modify(|connections| change(&mut connections[self.index]));
    }

    pub(super) fn close(&self, by: ClosedBy) {
        self.update(|connection| connection.closed = Some((Instant::now(), by)));
    }
}
