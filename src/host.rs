//! Facts about this machine as plain data: interfaces, routes, neighbours.
