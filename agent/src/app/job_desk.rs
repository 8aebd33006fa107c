//! Answers the socket of jobs.

use std::pin::Pin;
use std::sync::Arc;

use crate::config::TokenSource;
use crate::control::{Job, JobHandler, LoggedIn};
use crate::kernel::{ProcessStanding, process};
use crate::model::{CgroupPath, PolicyId, Secret};

use super::accept::Reception;
use super::login_keeper::LoginKeeper;

/// What the socket of jobs is answered from.
pub(super) struct JobDesk {
    reception: Arc<Reception>,
    keeper: Arc<LoginKeeper>,
}

impl JobHandler for JobDesk {
    fn login(
        &self,
        job: Job,
        token: Secret,
    ) -> Pin<Box<dyn Future<Output = Result<LoggedIn, String>> + Send + '_>> {
        Box::pin(self.log_in(job, token))
    }
}

impl JobDesk {
    pub(super) fn new(reception: Arc<Reception>, keeper: Arc<LoginKeeper>) -> Self {
        Self { reception, keeper }
    }

    async fn log_in(&self, job: Job, token: Secret) -> Result<LoggedIn, String> {
        let (cgroup, policy) = self.place_of(job)?;
        let id = self.reception.kernel.cgroup2().id_of(&cgroup).ok_or(GONE)?;
        let catalogue = self.reception.policies.current();
        let policy = catalogue
            .set
            .get(policy)
            .ok_or("the policy of this job is being changed; try again")?;
        let workload = policy.doc.workload.name.clone();
        let spec = policy
            .doc
            .identity
            .as_ref()
            .filter(|spec| spec.token == TokenSource::Login)
            .ok_or_else(|| {
                format!(
                    "the policy of workload {workload} takes no logins: it would have to say `token = {{ login = true }}`"
                )
            })?;
        let claims = self
            .reception
            .tokens
            .verifier
            .verify(&token, spec)
            .await
            .map_err(|error| format!("the token is not accepted: {error}"))?;
        let until = claims.valid_until();
        self.reception
            .tokens
            .logins
            .register(id, cgroup.clone(), token, until)
            .map_err(|error| error.to_string())?;
        self.keeper.keep(&self.reception.tokens.logins);
        tracing::info!(%workload, %cgroup, subject = claims.subject, "a job has logged in");
        Ok(LoggedIn {
            workload,
            cgroup,
            subject: claims.subject,
            until: until.into(),
        })
    }

    /// The cgroup of a process, and the policy that it is under.
    fn place_of(&self, job: Job) -> Result<(CgroupPath, PolicyId), String> {
        let kernel = &self.reception.kernel;
        let cgroup = kernel.cgroup2().of_process(job.pid).ok_or(GONE)?;
        // Asked after the cgroup: whoever has the pid now had it then.
        if !process::started(job.pid).is_ok_and(|start| start <= job.connected) {
            return Err(GONE.to_owned());
        }
        match kernel.standing_of(&cgroup) {
            Ok(ProcessStanding::Managed(policy)) => Ok((cgroup, policy)),
            Ok(_) => Err(format!(
                "this process is in cgroup {cgroup}, which no policy manages: it needs no login"
            )),
            Err(error) => Err(format!("cgroup {cgroup} cannot be looked at: {error}")),
        }
    }
}

const GONE: &str = "the process that asks has ended";
