//! Merging: one source's values over another's.

use serde_json::{Map, Value};

use super::origin::{Origin, Origins, member};

/// The merged values, and where each came from.
pub(super) struct Layers {
    pub(super) value: Value,
    pub(super) origins: Origins,
}

impl Layers {
    pub(super) fn new() -> Self {
        Self { value: Value::Object(Map::new()), origins: Origins::default() }
    }

    /// Lays `layer` over what is there: maps merge key by key, everything else – lists too – is replaced whole.
    pub(super) fn add(&mut self, layer: Value, origin: &Origin) {
        merge(&mut self.value, layer, "", origin, &mut self.origins);
    }
}

// The depth is bounded by the YAML parser's own.
fn merge(below: &mut Value, above: Value, pointer: &str, origin: &Origin, origins: &mut Origins) {
    let Value::Object(entries) = above else {
        origins.forget(pointer);
        origins.set(pointer, origin);
        *below = above;
        return;
    };
    if !below.is_object() {
        origins.forget(pointer);
        *below = Value::Object(Map::new());
    }
    let Value::Object(target) = below else { return };
    if entries.is_empty() && target.is_empty() {
        origins.set(pointer, origin);
    }
    for (key, value) in entries {
        let pointer = member(pointer, &key);
        merge(target.entry(key).or_insert(Value::Null), value, &pointer, origin, origins);
    }
}
