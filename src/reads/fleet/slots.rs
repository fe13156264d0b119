//! The slots of a cluster (Redis Cluster Specification).

use redis::Value;

use super::address::Host;

/// The number of slots.
const SLOTS: u16 = 16_384;

/// The most masters that are connected to.
const MAX_MASTERS: usize = 256;

/// A range of slots, and the index of the master that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SlotRange {
    first: u16,
    last: u16,
    pub(super) node: usize,
}

impl SlotRange {
    pub(super) fn contains(&self, slot: u16) -> bool {
        (self.first..=self.last).contains(&slot)
    }
}

/// The slot of a key: the CRC of the key, or of the part within its first braces if there is one.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM, as the specification's appendix A defines it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Reads the reply to `CLUSTER SLOTS`: the masters, and their ranges. A node that does not know its own address is at `asked`.
pub(super) fn parse_slots(reply: &Value, asked: &Host) -> Result<(Vec<Host>, Vec<SlotRange>), &'static str> {
    let Value::Array(entries) = reply else { return Err("not a cluster") };
    let mut masters: Vec<Host> = Vec::new();
    let mut ranges = Vec::new();
    for entry in entries {
        let (range, master) = parse_range(entry, asked).ok_or("a range of slots that cannot be read")?;
        let node = masters.iter().position(|known| *known == master).unwrap_or(masters.len());
        if node == masters.len() {
            masters.push(master);
        }
        ranges.push(SlotRange { node, ..range });
    }
    if masters.is_empty() || masters.len() > MAX_MASTERS {
        return Err("a cluster without slots, or of too many masters");
    }
    Ok((masters, ranges))
}

fn parse_range(entry: &Value, asked: &Host) -> Option<(SlotRange, Host)> {
    let Value::Array(parts) = entry else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [name, Value::Int(port), ..] = master.as_slice() else { return None };
    let name = match name {
        Value::Nil => asked.name.clone(),
        Value::BulkString(name) if name.is_empty() || name == b"?" => asked.name.clone(),
        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
        _ => return None,
    };
    let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS);
    let range = SlotRange { first: slot(first)?, last: slot(last)?, node: 0 };
    Some((range, Host { name, port: u16::try_from(*port).ok()? }))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("{foo}:bar"), 12_182);
        assert_eq!(slot_of("x{foo}{bar}"), 12_182);
        assert_eq!(slot_of("{}foo"), crc16(b"{}foo") % SLOTS);
    }

    #[test]
    fn masters_and_their_ranges_are_read() {
        let reply = "*3\r\n\
            *4\r\n:0\r\n:5460\r\n*2\r\n$8\r\n10.0.0.1\r\n:7000\r\n*2\r\n$8\r\n10.0.0.9\r\n:7009\r\n\
            *3\r\n:5461\r\n:10922\r\n*2\r\n$0\r\n\r\n:7001\r\n\
            *3\r\n:10923\r\n:16383\r\n*4\r\n$8\r\n10.0.0.1\r\n:7000\r\n$2\r\nid\r\n*0\r\n";
        let reply = redis::parse_redis_value(reply.as_bytes()).unwrap();
        let asked = Host { name: "asked".to_owned(), port: 1 };
        let (masters, ranges) = parse_slots(&reply, &asked).unwrap();
        assert_eq!(masters.iter().map(Host::to_string).collect::<Vec<_>>(), ["10.0.0.1:7000", "asked:7001"]);
        let node = |slot| ranges.iter().find(|range| range.contains(slot)).map(|range| range.node);
        assert_eq!((node(0), node(5461), node(16_383)), (Some(0), Some(1), Some(0)));
    }

    #[test]
    fn a_reply_of_another_form_is_refused() {
        let asked = Host { name: "asked".to_owned(), port: 1 };
        for reply in [
            "+OK\r\n",
            "*0\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n*2\r\n:0\r\n:1\r\n",
            "*1\r\n*3\r\n:0\r\n:99999\r\n*2\r\n$1\r\na\r\n:1\r\n",
            "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
            "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:99999\r\n",
            "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\n\u{1}\r\n+x\r\n",
        ] {
            let reply = redis::parse_redis_value(reply.as_bytes()).unwrap();
            assert!(parse_slots(&reply, &asked).is_err(), "{reply:?}");
        }
    }
}
