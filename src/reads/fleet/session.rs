//! A session with an engine: a connection to its server, or to each master of a cluster.

use std::sync::Arc;

use futures_util::future::try_join_all;
use redis::{Value, cmd};

use super::{
    OPERATION_LIMIT,
    address::{Address, Host, Topology},
    connection::Connection,
    failure::Failure,
    sign_in::SignIn,
    slots::{SlotRange, parse_slots, slot_of},
};

/// The connections of a session.
#[derive(Debug)]
pub(super) struct Session {
    connections: Vec<Connection>,
    /// Which connection has which slots. Empty unless the engine is a cluster.
    slots: Vec<SlotRange>,
}

impl Session {
    /// Connects, signs in, and checks that the engine replies in time and takes writes. A cluster counts as one: if one of
    /// its masters is away, the whole engine is. The caller bounds the time.
    pub(super) async fn open(address: &Address, sign_in: &SignIn, probe: &str) -> Result<Arc<Self>, Failure> {
        let (hosts, slots) = match &address.topology {
            Topology::Single(host) => (vec![host.clone()], Vec::new()),
            Topology::Sentinel { sentinels, master } => {
                (vec![ask_sentinels(sentinels, master, sign_in).await?], Vec::new())
            }
            Topology::Cluster(nodes) => first_success(nodes, |node| ask_node(node, sign_in)).await?,
        };
        let connect = async |host| {
            let connection = Connection::open(host, sign_in).await?;
            connection.sign_in(sign_in, address.database).await?;
            // An engine that is slow would make calls wait; it is used when it is fast enough again.
            connection.ping(OPERATION_LIMIT).await?;
            Ok::<_, Failure>(connection)
        };
        let session = Self { connections: try_join_all(hosts.iter().map(connect)).await?, slots };
        session.check_write(probe).await?;
        Ok(Arc::new(session))
    }

    /// Fails if the engine is a replica, or does not allow this user to write. A full engine is used: it still reads.
    async fn check_write(&self, probe: &str) -> Result<(), Failure> {
        let connection = self.connection(probe)?;
        match connection.send(cmd("SET").arg(probe).arg(1).arg("PX").arg(1000)).await {
            Ok(_) | Err(Failure::Full(_)) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// The connection to the server that has this key.
    pub(super) fn connection(&self, key: &str) -> Result<&Connection, Failure> {
        let index = if self.slots.is_empty() {
            Some(0)
        } else {
            let slot = slot_of(key);
            self.slots.iter().find(|range| range.contains(slot)).map(|range| range.node)
        };
        let connection = index.and_then(|index| self.connections.get(index));
        connection.ok_or_else(|| Failure::Away("a slot of the cluster has no server".to_owned()))
    }
}

/// Asks Sentinels for the master. What they say may be old, so the write that checks the session finds a replica.
async fn ask_sentinels(sentinels: &[Host], master: &str, sign_in: &SignIn) -> Result<Host, Failure> {
    first_success(sentinels, |sentinel| async move {
        let connection = Connection::open(sentinel, sign_in).await?;
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let reply = match connection.send(&command).await {
            // Only a Sentinel that asks for a password is shown it.
            Err(Failure::Away(_) | Failure::Refused(_)) => {
                connection.sign_in(sign_in, 0).await?;
                connection.send(&command).await?
            }
            reply => reply?,
        };
        let unknown = || Failure::Away(format!("the Sentinel at {sentinel} does not know the master's name"));
        let Value::Array(parts) = reply else { return Err(unknown()) };
        let [Value::BulkString(name), Value::BulkString(port)] = parts.as_slice() else {
            return Err(unknown());
        };
        let port = str::from_utf8(port).ok().and_then(|port| port.parse().ok());
        let name = String::from_utf8(name.clone()).ok();
        name.zip(port).map(|(name, port)| Host { name, port }).ok_or_else(unknown)
    })
    .await
}

/// Asks a node of a cluster for the masters and their slots.
async fn ask_node(node: &Host, sign_in: &SignIn) -> Result<(Vec<Host>, Vec<SlotRange>), Failure> {
    let connection = Connection::open(node, sign_in).await?;
    connection.sign_in(sign_in, 0).await?;
    let reply = connection.send(cmd("CLUSTER").arg("SLOTS")).await?;
    parse_slots(&reply, node).map_err(|problem| Failure::Away(format!("the node {node}: {problem}")))
}

/// Asks one host after the other. The failure is that of the last one.
async fn first_success<'a, T, F>(hosts: &'a [Host], ask: impl Fn(&'a Host) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let mut last = Failure::Away("no hosts".to_owned());
    for host in hosts {
        // One host that does not reply leaves time for the others.
        match tokio::time::timeout(super::CONNECT_LIMIT / 4, ask(host)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(failure)) => last = failure,
            Err(_) => last = Failure::Away(format!("{host}: no reply in time")),
        }
    }
    Err(last)
}
