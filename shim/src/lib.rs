//! Plugs Bulkhead into others.
