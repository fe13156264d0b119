//! Merges the values of several sources. Later sources override earlier ones.

use serde_json::{Map, Value};

use super::origin::{Origin, Origins, member};

/// The merged values, and the origin of each.
pub(super) struct Layers {
    pub(super) value: Value,
    pub(super) origins: Origins,
}

impl Layers {
    pub(super) fn new() -> Self {
        Self { value: Value::Object(Map::new()), origins: Origins::default() }
    }

    /// Adds the values of `layer`. Maps are merged key by key. Everything else, lists included, is replaced.
    pub(super) fn add(&mut self, layer: Value, origin: &Origin) {
        merge(&mut self.value, layer, "", origin, &mut self.origins);
    }
}

// The YAML parser limits the depth.
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
