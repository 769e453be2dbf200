//! Arguments as Python binds them: by place or by name.

use minijinja::value::{Kwargs, Rest, ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};

/// The arguments of a call, one for each name of its parameters.
pub(super) struct Bound(Vec<Option<Value>>);

/// Binds `args` to the parameters of these names.
pub(super) fn bind(names: &[&str], args: &[Value]) -> Result<Bound, Error> {
    let (Rest(places), named): (Rest<Value>, Kwargs) = from_args(args)?;
    bind_both(names, places, &named)
}

/// Binds those by place and those by name.
pub(super) fn bind_both(names: &[&str], places: Vec<Value>, named: &Kwargs) -> Result<Bound, Error> {
    if places.len() > names.len() {
        return Err(wrong(format!("{} arguments, it takes {}", places.len(), names.len())));
    }
    let mut bound: Vec<Option<Value>> = places.into_iter().map(Some).collect();
    for name in &names[bound.len()..] {
        bound.push(named.get::<Option<Value>>(name)?);
    }
    named.assert_all_used()?;
    Ok(Bound(bound))
}

/// An error of an argument or of a value.
pub(super) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

impl Bound {
    /// The argument, if it was given and is not `none`.
    pub(super) fn given(&self, place: usize) -> Option<&Value> {
        self.0.get(place)?.as_ref().filter(|value| !value.is_none() && !value.is_undefined())
    }

    /// A text that must be there.
    pub(super) fn text(&self, place: usize) -> Result<&str, Error> {
        let value = self.given(place).ok_or_else(|| wrong("an argument is missing"))?;
        value.as_str().ok_or_else(|| wrong(format!("the argument is {}, not a string", value.kind())))
    }

    /// A text that may be missing.
    pub(super) fn optional_text(&self, place: usize) -> Result<Option<&str>, Error> {
        self.given(place).map(|_| self.text(place)).transpose()
    }

    /// An integer that may be missing.
    pub(super) fn integer(&self, place: usize) -> Result<Option<i64>, Error> {
        let integer = |value: &Value| match value.kind() {
            ValueKind::Number | ValueKind::Bool => i64::try_from(value.clone()),
            kind => Err(wrong(format!("the argument is {kind}, not an integer"))),
        };
        self.given(place).map(integer).transpose()
    }

    /// A yes or no that may be missing.
    pub(super) fn flag(&self, place: usize) -> Option<bool> {
        self.given(place).map(Value::is_true)
    }
}
