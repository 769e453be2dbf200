//! HTTP: connections, who may ask, what is where.

mod connection;
pub(crate) mod guard;
mod layer;
mod pages;
pub(crate) mod routes;
mod timed;

pub(crate) use connection::listen;
