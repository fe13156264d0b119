//! Sentinels and clusters.

use std::time::Duration;

use rexd::reads::fleet::{Engine, Lease, Settings};

use crate::server::{Server, settings, until, until_connected};

const MINUTE: Duration = Duration::from_secs(60);

/// A Sentinel that watches a master called `mymaster`, alone: its own word is enough for a failover.
fn sentinel(master: &Server, more_lines: &'static str) -> Server {
    let port = master.port();
    Server::start_with(|directory| {
        let file = directory.join("sentinel.conf");
        let lines = format!(
            "sentinel monitor mymaster 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds mymaster 500\n\
             sentinel failover-timeout mymaster 5000\n\
             {more_lines}"
        );
        std::fs::write(&file, lines).unwrap();
        vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()]
    })
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn the_master_that_sentinels_name_is_used_and_the_next_one_after_a_failover() {
    let mut master = Server::start();
    let replica = Server::start();
    replica.run::<()>(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    let sentinel = sentinel(&master, "");
    // The first host is away.
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", crate::server::free_port(), sentinel.port());
    let engine = Engine::new(&settings(&format!("redis+sentinel://{hosts}/mymaster"))).unwrap();
    engine.check().await.unwrap();
    until_connected(&engine).await;
    engine.put("a", b"x", MINUTE).await;
    assert!(engine.get("a", 10).await.is_some());
    let other = Engine::new(&settings(&format!("redis+sentinel://{hosts}/another"))).unwrap();
    assert!(other.check().await.unwrap_err().contains("does not know"));

    // The Sentinel knows the replica before the master ends.
    until(
        "the sentinel knows the replica",
        || (),
        async |()| {
            !sentinel.run::<Vec<redis::Value>>(&["SENTINEL", "REPLICAS", "mymaster"]).is_empty()
                && replica.run::<String>(&["INFO", "replication"]).contains("master_link_status:up")
        },
    )
    .await;
    master.kill();
    until(
        "the replica is used",
        || (),
        async |()| {
            engine.put("b", b"x", MINUTE).await;
            engine.get("b", 10).await.is_some()
        },
    )
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_sentinel_that_requires_a_password_gets_it() {
    let master = Server::start();
    let sentinel = sentinel(&master, "requirepass canary\nsentinel auth-pass mymaster canary\n");
    master.run::<()>(&["CONFIG", "SET", "requirepass", "canary"]);
    let file = master.directory().join("password");
    let url = format!("redis+sentinel://127.0.0.1:{}/mymaster", sentinel.port());
    for (password, works) in [("wrong", false), ("canary", true)] {
        std::fs::write(&file, password).unwrap();
        let settings = Settings { password_file: Some(file.clone()), ..settings(&url) };
        assert_eq!(Engine::new(&settings).unwrap().check().await.is_ok(), works, "{password}");
    }
    assert!(Engine::new(&settings(&url)).unwrap().check().await.unwrap_err().contains("NOAUTH"));
}

/// A node of a cluster, which knows no other one yet.
fn node() -> Server {
    Server::start_with(|_| {
        // By default the nodes talk to each other at the port plus 10000, which need not be a port.
        let bus = crate::server::free_port().to_string();
        ["--cluster-enabled", "yes", "--cluster-port", &bus].map(str::to_owned).to_vec()
    })
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn every_key_of_a_cluster_is_at_its_node() {
    let nodes = [node(), node(), node()];
    for (node, range) in nodes.iter().zip([["0", "5460"], ["5461", "10922"], ["10923", "16383"]]) {
        node.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]]);
        let bus: Vec<String> = nodes[0].run(&["CONFIG", "GET", "cluster-port"]);
        node.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &nodes[0].port().to_string(), &bus[1]]);
    }
    until(
        "the cluster is complete",
        || (),
        async |()| {
            nodes.iter().all(|node| node.run::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
        },
    )
    .await;
    let url =
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", crate::server::free_port(), nodes[1].port());
    let engine = Engine::new(&settings(&url)).unwrap();
    engine.check().await.unwrap();
    until_connected(&engine).await;
    for number in 0..100 {
        let name = format!("name {number}");
        engine.put(&name, name.as_bytes(), MINUTE).await;
        assert_eq!(engine.get(&name, 100).await.unwrap().value, name);
        assert!(matches!(engine.lease(&name).await, Lease::Held(_)));
    }
    engine.pauses().announce("docker.io", MINUTE);
    until("the pause is known", || (), async |()| engine.pauses().paused_until("docker.io").is_some()).await;
    let limits =
        rexd::reads::fleet::BudgetLimits { requests_per_second: Some(100), max_concurrent_requests: Some(2) };
    let budget = engine.budget("docker.io", limits);
    drop(budget.admit(rexd::client::BudgetedRequest::Concurrent).await);
    assert_eq!(engine.counts().refused, 0);
    for node in &nodes {
        assert!(node.run::<u64>(&["DBSIZE"]) > 10);
    }

    // A slot moves: the first operation about it is as without an engine, and later ones find it.
    let slot: u16 = nodes[0].run(&["CLUSTER", "KEYSLOT", &moved_key(&nodes[0])]);
    let id: String = nodes[1].run(&["CLUSTER", "MYID"]);
    for key in nodes[0].run::<Vec<String>>(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "100"]) {
        nodes[0].run::<()>(&["DEL", &key]);
    }
    for node in nodes.iter().rev() {
        node.run::<()>(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &id]);
    }
    until(
        "all keys are found again",
        || (),
        async |()| {
            let mut found = 0;
            for number in 0..100 {
                let name = format!("name {number}");
                engine.put(&name, b"again", MINUTE).await;
                found += usize::from(engine.get(&name, 100).await.is_some_and(|kept| kept.value == "again"));
            }
            found == 100
        },
    )
    .await;
}

/// A document's key at this node.
fn moved_key(node: &Server) -> String {
    node.run::<Vec<String>>(&["KEYS", "*:document:*"])[0].clone()
}
