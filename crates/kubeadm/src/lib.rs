//! Makes, joins and looks after clusters.
