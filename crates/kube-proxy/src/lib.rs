//! Service traffic and pod routes on a node.
