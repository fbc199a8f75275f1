//! Puts the API server together; reads like the diagram in the architecture page.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use client::{ClientFiles, kubeconfig::Material};
use daemon::server::{Limits, serve};
use daemon::tls::{ServerFiles, ServerTls};
use daemon::{Shell, tasks};
use resources::Catalogue;
use store::{Embedded, Store};
use tokio::net::TcpListener;

use crate::admission::{Chain, Choice, Configuration, Parts};
use crate::aggregation::{self, Aggregation};
use crate::audit::Audit;
use crate::authn::{Authenticator, BootstrapTokens, Tokens};
use crate::bootstrap::{self, Authentication, Endpoint};
use crate::cache;
use crate::config::Flags;
use crate::connect::{Connector, Kubelets, Outward};
use crate::conversion::Converter;
use crate::deadline::Deadline;
use crate::definitions;
use crate::encryption::{EncryptedStore, Encryption};
use crate::entry::{Doors, Limit};
use crate::flow::{self, FlowControl, InFlight};
use crate::front::Front;
use crate::gate::Gate;
use crate::grpc::Services;
use crate::registry::{Kinds, Planner, Registry};
use crate::rest::Rest;
use crate::service_addresses::ServiceAddresses;

/// A running API server.
pub struct Running {
    /// The first address that it listens on.
    pub address: SocketAddr,
    serving: Vec<tokio::task::JoinHandle<()>>,
    store: Arc<Embedded>,
    audit: Option<Arc<Audit>>,
}

/// Starts the API server and returns when it is ready.
///
/// # Errors
/// What cannot be read, opened or listened on.
pub async fn assemble(flags: &Flags, shell: &Shell) -> anyhow::Result<Running> {
    let choice = Choice::new(&flags.enable_admission_plugins, &flags.disable_admission_plugins)?;
    let tls = ServerTls::load(ServerFiles {
        certificate: flags.tls_cert_file.clone(),
        key: flags.tls_private_key_file.clone(),
        client_ca: Some(flags.client_ca_file.clone()),
        front_proxy_ca: flags.authentication.front_proxies.requestheader_client_ca_file.clone(),
    })?;
    tls.watch(shell.shutdown.clone());
    let listeners = listeners(flags).await?;
    let address = listeners[0].local_addr().context("read the listening address")?;

    let embedded = stored(flags, shell).await?;
    let store = encrypted(embedded.clone(), flags, shell).await?;

    let cache =
        cache::start(Arc::clone(&store), shell.shutdown.clone()).await.context("fill the watch cache")?;
    let kinds = Arc::new(Kinds::new(&Catalogue::built_in()));
    let addresses = service_addresses(flags, &cache, shell);
    let own_service = addresses.first().context("--service-cluster-ip-range has no usable address")?;
    let planners: Vec<Box<dyn Planner>> = vec![Box::new(addresses)];
    let kubelets = Arc::new(Kubelets::new(kubelet_files(flags)));
    let outward = Arc::new(Outward::new(Arc::clone(&cache), Arc::clone(&kubelets)));
    let authorizer = Arc::new(flags.authorization.open(&cache, &shell.clock)?);
    flags.authorization.follow(&authorizer, &cache, &shell.clock, shell.shutdown.clone());
    let converter = Arc::new(Converter::new(Arc::clone(&outward)));
    let parts = Parts {
        cache: Arc::clone(&cache),
        kinds: Arc::clone(&kinds),
        authorizer: Arc::clone(&authorizer),
        outward: Arc::clone(&outward),
        converter: Arc::clone(&converter),
        configuration: admission_configuration(flags, &choice, shell)?,
    };
    let admission = Chain::new(&choice, &parts);
    let clock = Arc::clone(&shell.clock);
    let aggregation = Arc::new(Aggregation::new(Arc::clone(&cache), outward, proxy_identity(flags)));
    let registry = Registry::new(store, Arc::clone(&cache), kinds, admission, planners, clock, converter);

    let tokens = Arc::new(tokens(flags, &cache, shell)?);
    let others = flags.authentication.open(&flags.service_account_issuer, &shell.clock)?;
    let bootstrap = flags.enable_bootstrap_token_auth.then(|| BootstrapTokens::new(Arc::clone(&cache)));
    let authenticator = Authenticator::new(tokens, bootstrap, others, Arc::clone(&shell.clock));
    let flow = flow_control(flags, &cache, shell)?;
    let audit = flags.audit.open(&shell.clock, |register| shell.health.metrics(register))?;
    let doors = Doors {
        limit: limit(flags, &flow),
        deadline: Deadline::new(flags.request_timeout),
        audit: audit.clone(),
    };
    let gate = Arc::new(Gate::new(registry, authenticator, authorizer, doors));
    let connector = Arc::new(Connector::new(kubelets));
    let rest = Rest::new(
        Arc::clone(&gate),
        shell.health.clone(),
        shell.shutdown.clone(),
        Arc::clone(&connector),
        Arc::clone(&aggregation),
    );
    let services = Services::new(&gate, &connector, &aggregation, &shell.shutdown);
    let front = Arc::new(Front::new(Arc::clone(&gate), Arc::new(rest), services));

    settle(&gate, &aggregation, own_service, (flags, address.port()), shell).await?;
    if let Some(flow) = &flow {
        flow::start(flow, &gate, shell.shutdown.clone()).await?;
    }
    let serving = listeners
        .into_iter()
        .map(|listener| {
            let serving = serve(
                listener,
                Arc::clone(&tls),
                Limits::default(),
                Arc::clone(&front),
                shell.shutdown.clone(),
            );
            tasks::spawn("serve", serving)
        })
        .collect();
    Ok(Running { address, serving, store: embedded, audit })
}

/// Makes what every cluster has, and starts what looks after it.
async fn settle(
    gate: &Arc<Gate>,
    aggregation: &Arc<Aggregation>,
    service: IpAddr,
    (flags, port): (&Flags, u16),
    shell: &Shell,
) -> anyhow::Result<()> {
    let ranges = flags.service_cluster_ip_range.clone();
    let endpoint = Endpoint { ranges, service, address: flags.advertise_address, port };
    definitions::start(gate, shell.shutdown.clone());
    let authentication = Authentication::read(flags)?;
    let bootstrap = bootstrap::run(gate, endpoint, &authentication, shell.shutdown.clone());
    bootstrap.await.context("make what every cluster has")?;
    aggregation::start(aggregation, gate, shell.shutdown.clone());
    let stopping = shell.shutdown.clone();
    shell.health.ready("shutdown", move || {
        if stopping.has_begun() { Err("the server is stopping".to_owned()) } else { Ok(()) }
    });
    Ok(())
}

impl Running {
    /// Waits until everything is drained, then closes the store.
    ///
    /// # Errors
    /// The store cannot be closed cleanly; it will recover when it is opened.
    pub async fn finished(self) -> anyhow::Result<()> {
        for serving in self.serving {
            serving.await.context("a listener ended badly")?;
        }
        if let Some(audit) = &self.audit {
            audit.flush().await;
        }
        self.store.close().await.context("close the store")
    }
}

/// What is on this machine's disk.
async fn stored(flags: &Flags, shell: &Shell) -> anyhow::Result<Arc<Embedded>> {
    let mut config = store::Config::new(&flags.data_dir);
    config.history = flags.history;
    let opened = Embedded::open(config, Arc::clone(&shell.clock)).await;
    let embedded =
        Arc::new(opened.with_context(|| format!("open the store in {}", flags.data_dir.display()))?);
    shell.health.metrics(|registry| embedded.register(registry));
    Ok(embedded)
}

/// The store as everything above sees it.
async fn encrypted(store: Arc<dyn Store>, flags: &Flags, shell: &Shell) -> anyhow::Result<Arc<dyn Store>> {
    let Some(path) = &flags.encryption_provider_config else { return Ok(store) };
    let encryption = Encryption::load(path).await?;
    if flags.encryption_provider_config_automatic_reload {
        encryption.follow(shell.shutdown.clone());
    }
    let looked = Arc::clone(&encryption);
    shell.health.ready("kms-providers", move || looked.health());
    Ok(Arc::new(EncryptedStore::new(store, encryption)))
}

fn service_addresses(flags: &Flags, cache: &Arc<cache::WatchCache>, shell: &Shell) -> ServiceAddresses {
    ServiceAddresses::new(
        flags.service_cluster_ip_range.clone(),
        flags.service_node_port_range.clone(),
        Arc::clone(cache),
        Arc::clone(&shell.clock),
    )
}

fn admission_configuration(flags: &Flags, choice: &Choice, shell: &Shell) -> anyhow::Result<Configuration> {
    let configuration = match &flags.admission_control_config_file {
        Some(path) => Configuration::load(path, &shell.clock)?,
        None => Configuration::default(),
    };
    choice.suits(&configuration)?;
    Ok(configuration)
}

async fn listeners(flags: &Flags) -> anyhow::Result<Vec<TcpListener>> {
    let address = flags.listen();
    let mut listeners =
        vec![TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?];
    for socket in daemon::systemd::listen_sockets() {
        let socket = std::net::TcpListener::from(socket);
        socket.set_nonblocking(true).context("prepare a socket of the service manager")?;
        listeners.push(TcpListener::from_std(socket).context("use a socket of the service manager")?);
    }
    Ok(listeners)
}

fn tokens(flags: &Flags, cache: &Arc<cache::WatchCache>, shell: &Shell) -> anyhow::Result<Tokens> {
    let audiences = if flags.api_audiences.is_empty() {
        vec![flags.service_account_issuer.clone()]
    } else {
        flags.api_audiences.clone()
    };
    Tokens::load(
        &flags.service_account_signing_key_file,
        &flags.service_account_key_file,
        (&flags.service_account_issuer, keys_url(flags)),
        audiences,
        Arc::clone(cache),
        Arc::clone(&shell.clock),
    )
}

fn flow_control(
    flags: &Flags,
    cache: &Arc<cache::WatchCache>,
    shell: &Shell,
) -> anyhow::Result<Option<Arc<FlowControl>>> {
    if !flags.enable_priority_and_fairness {
        return Ok(None);
    }
    let seats = u64::from(flags.max_requests_inflight) + u64::from(flags.max_mutating_requests_inflight);
    anyhow::ensure!(
        seats > 0,
        "--max-requests-inflight and --max-mutating-requests-inflight must not both be 0 with priority and fairness"
    );
    let flow = FlowControl::new(Arc::clone(cache), seats, Arc::clone(&shell.clock));
    shell.health.metrics(|registry| flow.register(registry));
    Ok(Some(flow))
}

fn limit(flags: &Flags, flow: &Option<Arc<FlowControl>>) -> Limit {
    let count = |flag: u32| usize::try_from(flag).unwrap_or(usize::MAX);
    match flow {
        Some(flow) => Limit::Fair(Arc::clone(flow)),
        None => Limit::Plain(InFlight::new(
            count(flags.max_requests_inflight),
            count(flags.max_mutating_requests_inflight),
        )),
    }
}

/// Where the public keys of service account tokens are served.
fn keys_url(flags: &Flags) -> String {
    let own = || {
        let address = SocketAddr::new(flags.advertise_address, flags.secure_port);
        format!("https://{address}/openid/v1/jwks")
    };
    flags.service_account_jwks_uri.clone().unwrap_or_else(own)
}

/// What proves to extension API servers that this is the API server.
fn proxy_identity(flags: &Flags) -> Option<(Material, Material)> {
    let file = |path: &Option<std::path::PathBuf>| path.clone().map(Material::File);
    Some((file(&flags.proxy_client_cert_file)?, file(&flags.proxy_client_key_file)?))
}

fn kubelet_files(flags: &Flags) -> ClientFiles {
    let file = |path: &std::path::Path| Material::File(path.to_owned());
    ClientFiles {
        ca: file(&flags.kubelet_certificate_authority),
        identity: Some((file(&flags.kubelet_client_certificate), file(&flags.kubelet_client_key))),
        server_name: None,
    }
}
