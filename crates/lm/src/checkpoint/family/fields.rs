//! Fields of a `config.json`: read with their defaults, refused by name.

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A field, or what stands for it when it is missing or null.
pub(super) fn field<T: DeserializeOwned>(json: &Value, name: &str, default: Option<T>) -> Result<T> {
    match json.get(name) {
        None | Some(Value::Null) => default.with_context(|| format!("{name} is missing")),
        Some(value) => T::deserialize(value).with_context(|| format!("{name} is {value}")),
    }
}

/// Refuses a field whose value, or whose default, is not one of those that are supported.
pub(super) fn expect(json: &Value, name: &str, default: impl Into<Value>, supported: &[Value]) -> Result<()> {
    let value = json.get(name).filter(|value| !value.is_null()).cloned().unwrap_or(default.into());
    let known = || supported.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    ensure!(supported.contains(&value), "{name} {value} is not supported; known is {}", known());
    Ok(())
}

/// The one probability of dropout that a model of ours has: the last of three fields. Others are told of.
pub(super) fn dropout(
    json: &Value,
    names: [&str; 3],
    default: f32,
    warnings: &mut Vec<String>,
) -> Result<f32> {
    let [others @ .., name] = names;
    let dropout = field(json, name, Some(default))?;
    for other in others {
        let value: f32 = field(json, other, Some(default))?;
        if value != dropout {
            warnings.push(format!(
                "config.json has {other} {value} and {name} {dropout}, which is taken for both in further training"
            ));
        }
    }
    Ok(dropout)
}

/// The `f64` with the fewest digits that is this `f32`: 0.1 and not 0.10000000149011612.
pub(super) fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}
