//! A little HTTP: a server out of a function, and single requests.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;

/// The body of an answer: pieces, or a broken connection.
pub type Body = StreamBody<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>;

/// A body in one piece.
pub fn whole(bytes: Bytes) -> Body {
    pieces(vec![Ok(bytes)])
}

/// A body of pieces, the last of which may be an error that breaks the connection.
pub fn pieces(list: Vec<Result<Bytes, std::io::Error>>) -> Body {
    let frames = list.into_iter().map(|piece| piece.map(Frame::data));
    StreamBody::new(futures::stream::iter(frames).boxed())
}

/// Serves on a port of this machine until the test ends; gives its address.
pub async fn serve<F, A>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let answered = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(answered.await) }
                });
                // A broken connection is what some tests ask for.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

/// One request over a connection of its own.
pub async fn send(address: SocketAddr, request: Request<Bytes>) -> Response<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("connect");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("handshake");
    tokio::spawn(connection);
    let (mut parts, body) = request.into_parts();
    parts.headers.entry("host").or_insert_with(|| address.to_string().parse().expect("a header"));
    let response = sender.send_request(Request::from_parts(parts, Full::new(body))).await.expect("answer");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("body").to_bytes();
    Response::from_parts(parts, body)
}
