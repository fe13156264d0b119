//! The URL of an engine.
//!
//! | form | where the engine is |
//! |---|---|
//! | `redis://host:6379`, `redis://host:6379/2` | one server, and the number of its database |
//! | `redis+sentinel://host:26379,host:26379/mymaster`, `…/mymaster/2` | the master that Sentinels name |
//! | `redis+cluster://host:6379,host:6379` | a cluster, found through any of these nodes |
//!
//! `rediss` instead of `redis` is the same over TLS. Ports are optional. A URL holds no user name and no password: those have
//! keys of their own, so that a URL can be printed.

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) topology: Topology,
    /// The number of the database, 0 unless the URL names one.
    pub(super) database: u32,
}

/// How many servers there are, and how the one to ask is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// One server.
    Single(Host),
    /// Sentinels, and the name under which they know the master.
    Sentinel { sentinels: Vec<Host>, master: String },
    /// Some nodes of a cluster.
    Cluster(Vec<Host>),
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Host {
    /// A DNS name or an IP address, an IPv6 address without brackets.
    pub(super) name: String,
    pub(super) port: u16,
}

/// The ports that Redis and Sentinel have in their own documentation.
const SERVER_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// The most hosts in a URL.
const MAX_HOSTS: usize = 32;

/// The highest number of a database; servers have 16 unless they are configured otherwise.
const MAX_DATABASE: u32 = 65_535;

impl Address {
    /// Reads a URL. The error is the predicate of a sentence about the URL, and does not quote it.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let form = "must be redis://host:port, redis+sentinel://host:port,host:port/master or \
                    redis+cluster://host:port,host:port; rediss instead of redis for TLS";
        let (scheme, rest) = url.split_once("://").ok_or(form)?;
        if rest.contains('@') {
            return Err("must not hold a user name or password; set username and password_file".to_owned());
        }
        if rest.contains(['?', '#']) {
            return Err("must not have a query or fragment".to_owned());
        }
        let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match base {
            "redis" => false,
            "rediss" => true,
            _ => return Err(form.to_owned()),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (topology, database) = match (kind, path.as_slice()) {
            ("", path) => {
                let [host] = <[Host; 1]>::try_from(parse_hosts(hosts, SERVER_PORT)?).map_err(|_| {
                    "names several hosts: write redis+sentinel:// or redis+cluster://".to_owned()
                })?;
                (Topology::Single(host), path)
            }
            ("sentinel", [master, database @ ..]) => {
                let sentinels = parse_hosts(hosts, SENTINEL_PORT)?;
                (Topology::Sentinel { sentinels, master: (*master).to_owned() }, database)
            }
            ("sentinel", []) => {
                return Err("must name the master after the hosts: redis+sentinel://host:port/master".into());
            }
            ("cluster", []) => (Topology::Cluster(parse_hosts(hosts, SERVER_PORT)?), [].as_slice()),
            ("cluster", _) => return Err("must not have a path: a cluster has a single database".to_owned()),
            _ => return Err(form.to_owned()),
        };
        let database = match database {
            [] => 0,
            [number] => number.parse().ok().filter(|number| *number <= MAX_DATABASE).ok_or_else(|| {
                format!("must end with the number of a database, 0 to {MAX_DATABASE}, or without a path")
            })?,
            _ => return Err("has too many parts in its path".to_owned()),
        };
        Ok(Self { tls, topology, database })
    }
}

fn parse_hosts(text: &str, default_port: u16) -> Result<Vec<Host>, String> {
    let hosts = text.split(',').map(|host| Host::parse(host, default_port)).collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > MAX_HOSTS {
        return Err(format!("names more than {MAX_HOSTS} hosts"));
    }
    Ok(hosts)
}

impl Host {
    fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let invalid = || "must name hosts as host or host:port, separated by commas".to_owned();
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, port) = rest.split_once(']').ok_or_else(invalid)?;
                name.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
                (name, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(invalid)?)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_name = !name.is_empty()
            && name.len() <= 253
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
        if !is_name {
            return Err(invalid());
        }
        let port = match port {
            "" if !text.ends_with(':') => default_port,
            port => port.parse().ok().filter(|port| *port != 0).ok_or_else(invalid)?,
        };
        Ok(Self { name: name.to_owned(), port })
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host { name: name.to_owned(), port }
    }

    #[test]
    fn every_form_of_a_url_is_read() {
        let single = |tls, host, database| Address { tls, topology: Topology::Single(host), database };
        for (url, expected) in [
            ("redis://engine", single(false, host("engine", 6379), 0)),
            ("redis://engine:7000/", single(false, host("engine", 7000), 0)),
            ("rediss://10.0.0.1:7000/3", single(true, host("10.0.0.1", 7000), 3)),
            ("redis://[::1]", single(false, host("::1", 6379), 0)),
            ("redis://[::1]:7000", single(false, host("::1", 7000), 0)),
        ] {
            assert_eq!(Address::parse(url), Ok(expected), "{url}");
        }
        let sentinel = Address::parse("rediss+sentinel://a,b:7000/mymaster/2").unwrap();
        assert!(sentinel.tls);
        assert_eq!(sentinel.database, 2);
        assert_eq!(
            sentinel.topology,
            Topology::Sentinel {
                sentinels: vec![host("a", 26379), host("b", 7000)],
                master: "mymaster".to_owned()
            }
        );
        let cluster = Address::parse("redis+cluster://a:1,b").unwrap();
        assert_eq!(cluster.topology, Topology::Cluster(vec![host("a", 1), host("b", 6379)]));
    }

    #[test]
    fn a_url_of_no_form_is_refused_and_not_quoted() {
        for url in [
            "",
            "engine:6379",
            "http://canary",
            "redis+http://canary",
            "redis://",
            "redis://canary:0",
            "redis://canary:",
            "redis://canary:65536",
            "redis://canary:port",
            "redis://canary,b",
            "redis://canary/x",
            "redis://canary/1/2",
            "redis://canary?db=1",
            "redis://canary/#1",
            "redis://user:canary@host",
            "redis://:canary@host",
            "redis://can ary",
            "redis://[canary]",
            "redis://[::1",
            "redis://[::1]canary",
            "redis+sentinel://canary",
            "redis+sentinel://canary/master/x",
            "redis+cluster://canary/0",
            "redis+cluster://canary,,b",
        ] {
            let problem = Address::parse(url).unwrap_err();
            assert!(!problem.contains("canary"), "{url}: {problem}");
        }
        assert!(Address::parse(&format!("redis+cluster://{}", vec!["a"; 33].join(","))).is_err());
    }
}
