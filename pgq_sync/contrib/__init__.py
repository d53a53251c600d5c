"""pgq-sync within frameworks: each has a package of its own, which alone imports it."""
