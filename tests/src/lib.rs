//! Harness of the end-to-end tests and of the demo: real servers, cgroups and the agent, in folders and on
//! ports of their own. Whatever it makes it removes when it is dropped, also when a test fails.

pub mod agent;
pub mod authorization;
pub mod bypass;
pub mod cgroup;
pub mod container;
pub mod docker;
pub mod driver;
pub mod faulty;
pub mod isolated;
pub mod job;
pub mod manager;
pub mod mariadb;
pub mod memory;
pub mod nameserver;
pub mod netns;
pub mod nginx;
pub mod oidc;
pub mod policy;
pub mod postgres;
pub mod process;
pub mod psql;
pub mod saml;
pub mod scratch;
pub mod script;
pub mod vault;
pub mod world;
