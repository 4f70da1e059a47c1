//! Coming in: files, certificates, development keys.

use crate::{
    publishing::register_host,
    support::{World, authority},
};
use cryptlet_api::ClientError;
use cryptlet_developer::{
    DeveloperError, Nodes, Places, Session, Wallet,
    connect::{CONNECTION_FILE, PROJECT_FOLDER},
};
use cryptlet_node::NodeConfig;

#[tokio::test]
async fn a_connection_file_above_the_folder_leads_to_the_host() {
    let world = World::start().await;
    let near = world.folder.path().join(PROJECT_FOLDER);
    let deep = world.folder.path().join("a/b");
    std::fs::create_dir_all(&near).unwrap();
    std::fs::create_dir_all(&deep).unwrap();
    world
        .connection()
        .save(&near.join(CONNECTION_FILE))
        .unwrap();
    let places = Places {
        folder: deep,
        ..Places::default()
    };
    let (file, connection) = places.find().unwrap();
    assert_eq!(file, near.join(CONNECTION_FILE));
    let session = Session::open(&connection, Nodes::default()).await.unwrap();
    assert_eq!(session.register_domain(), world.register);
    assert_eq!(session.delegate_domain(), world.delegate);
}

#[tokio::test]
async fn a_host_of_another_authority_is_not_talked_to() {
    let world = World::start().await;
    let mut connection = world.connection();
    connection.authority = authority(2).pem().to_owned();
    let error = Session::open(&connection, Nodes::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            &error,
            DeveloperError::Client(ClientError::NotTheHost { .. })
        ),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_node_of_another_chain_is_not_believed() {
    let world = World::start().await;
    let other = NodeConfig {
        chain_id: 5,
        ..NodeConfig::default()
    };
    let other = cryptlet_node::Node::start(other).await.unwrap();
    let nodes = Nodes {
        register: Some(other.url()),
        ..Nodes::default()
    };
    let error = Session::open(&world.connection(), nodes).await.unwrap_err();
    assert!(
        matches!(
            error,
            DeveloperError::WrongChain {
                expected: 31_337,
                found: 5,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn keys_that_everybody_knows_work_on_development_chains_of_this_machine_only() {
    let world = World::on(NodeConfig {
        chain_id: 5,
        ..NodeConfig::default()
    })
    .await;
    let error = Wallet::development(0, &world.session().await).unwrap_err();
    assert!(
        matches!(error, DeveloperError::NotDevelopment(_)),
        "{error}"
    );

    let world = World::start().await;
    assert!(Wallet::development(0, &world.session().await).is_ok());
    let nodes = Nodes {
        chain: Some("https://chain.example/KEY".into()),
        ..Nodes::default()
    };
    let error = Wallet::development(0, &world.session_with(nodes).await).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("chain.example") && !error.contains("KEY"),
        "{error}"
    );
}

#[tokio::test]
async fn what_the_users_own_node_says_of_the_hosts_authority_counts() {
    let world = World::start().await;
    let own = || Nodes {
        register: Some(world.node.url()),
        ..Nodes::default()
    };
    // Not registered: nothing is claimed.
    world.session_with(own()).await;
    register_host(&world, authority(1).digest().0).await;
    world.session_with(own()).await;
    register_host(&world, authority(2).digest().0).await;
    let error = Session::open(&world.connection(), own()).await.unwrap_err();
    assert!(
        matches!(
            &error,
            DeveloperError::Client(ClientError::OtherAuthority { .. })
        ),
        "{error}"
    );
}
