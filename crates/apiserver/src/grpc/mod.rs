//! The gRPC front: the object service and, for kubectl, the node service.

mod aggregated;
mod node;
mod objects;

use std::sync::Arc;

use daemon::Shutdown;
use wire::node::node_server::NodeServer;
use wire::objects::objects_server::ObjectsServer;

use crate::aggregation::Aggregation;
use crate::connect::Connector;
use crate::entry::Sender;
use crate::gate::Gate;
use crate::rest::MAX_BODY;

use aggregated::Others;
pub use node::NodeFront;
pub use objects::ObjectsFront;

/// The two services, ready to be called.
#[derive(Clone)]
pub struct Services {
    /// Every verb on every kind.
    pub objects: ObjectsServer<ObjectsFront>,
    /// What nodes serve.
    pub node: NodeServer<NodeFront>,
}

impl Services {
    /// Services before a gate.
    #[must_use]
    pub(crate) fn new(
        gate: &Arc<Gate>,
        connector: &Arc<Connector>,
        aggregation: &Arc<Aggregation>,
        shutdown: &Shutdown,
    ) -> Self {
        let others = Others::new(Arc::clone(aggregation));
        let objects = ObjectsFront::new(Arc::clone(gate), others, shutdown.clone());
        let node = NodeFront::new(Arc::clone(gate), Arc::clone(connector));
        Self {
            objects: ObjectsServer::new(objects)
                .max_decoding_message_size(MAX_BODY + 4096)
                .max_encoding_message_size(usize::MAX),
            node: NodeServer::new(node).max_decoding_message_size(MAX_BODY),
        }
    }
}

/// The sender that the connection's front put on the request.
fn sender_of<T>(request: &tonic::Request<T>) -> Result<Sender, tonic::Status> {
    let sender = request.extensions().get::<Sender>().cloned();
    sender.ok_or_else(|| tonic::Status::internal("the request was not authenticated"))
}
