//! The wire to a builder: addresses, dialling, control, gateway, sessions, status, errors.
//!
//! [`address`] says where a builder is and [`dial`] reaches it; [`control`] asks it for its workers
//! and for builds; [`session`] lends it files, secrets and credentials meanwhile; [`solve`] runs one
//! build with all of that, and [`gateway`] is how the client of such a build looks things up.
//! [`status`] and [`errors`] turn what it tells into plain data.
//!
//! # Example
//!
//! ```
//! use bk_sync::buildkit::address::Address;
//!
//! let address: Address = "kube-pod://buildkitd-0?namespace=ci".parse()?;
//! assert_eq!(address.to_string(), "kube-pod://buildkitd-0?namespace=ci");
//! assert!("nonsense".parse::<Address>().is_err());
//! # Ok::<(), bk_sync::buildkit::address::AddressError>(())
//! ```
//!
//! With a builder at hand:
//!
//! ```no_run
//! use bk_sync::buildkit::{control::Control, dial};
//!
//! # async fn workers() -> Result<(), Box<dyn std::error::Error>> {
//! let address = "unix:///run/buildkit/buildkitd.sock".parse()?;
//! let connection = dial::connect(&address, &dial::Options::default()).await?;
//! for worker in Control::new(connection.channel.clone()).workers().await? {
//!     println!("{}", worker.id);
//! }
//! # Ok(())
//! # }
//! ```

pub mod address;
pub mod capabilities;
pub mod control;
pub mod dial;
pub mod discover;
pub mod errors;
pub mod gateway;
pub mod session;
pub mod solve;
pub mod status;
