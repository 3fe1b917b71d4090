"""The server: a broker that clients reach, a job store, supervised workers."""
