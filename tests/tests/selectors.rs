//! Workloads that are told apart by what they are and not by where: containers of podman and runc by label and image, each
//! under its own policy, and what happens when nobody can say what a container is.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use tollgate_tests::container::{Bundle, Podman, Runtime, root};
use tollgate_tests::docker::Docker;
use tollgate_tests::faulty::Faulty;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::netns::Netns;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::{Service, eventually, run};
use tollgate_tests::world::{DATABASE, ROLE, World};

const LIMIT: Duration = Duration::from_mins(1);

const READS: &str = r#"
[[service.rule]]
name    = "reads"
effects = ["read", "transaction", "session"]
verdict = "allow"
"#;

const WHO: &str = "SELECT session_user";

/// Without a policy there is no login: a job needs a password of its own.
const FREE: &str = "no password supplied";

/// What a job of the policy `report` gets, which has no rule.
const REFUSED: &str = "no rule allows";

/// A world with two policies for containers below `pods` that differ in the label `project`, and one for those of runc.
struct Stand {
    podman: Podman,
    namespace: Netns,
    _door: Faulty,
    _relay: Faulty,
    world: World,
    slice: String,
    port: u16,
}

impl Stand {
    /// `number`: of the network namespace, another one in each test.
    fn new(number: u8) -> Self {
        let net = u8::try_from(100 + std::process::id() % 100).unwrap();
        let (mut world, relay) = World::behind_a_relay(READS).unwrap();
        let port = relay.address().port();
        let slice = world.job.path().trim_end_matches("/job").to_owned();
        let network = format!("address  = [\"10.{net}.0.0/16:{port}\"]");
        let address = format!("address  = [\"{}\"]", world.address);
        world
            .edit_policy(|text| text.replace(&address, &network))
            .unwrap();
        let podman = Podman::new(&world.agent, &slice).unwrap();
        let socket = podman.socket();
        world
            .agent
            .configure(&format!("[containers]\npodman = \"{}\"", socket.display()))
            .unwrap();
        let stand = |name: &str, selects: &str, rules: &str| {
            let text = std::fs::read_to_string(world.agent.dir().join("policies.d/test-job.toml")).unwrap();
            let cgroup = format!("cgroup = [\"{slice}/job\"]");
            assert!(text.contains(&cgroup) && text.contains(READS), "{text}");
            let text = text
                .replace("\"test-job\"", &format!("\"{name}\""))
                .replace(&cgroup, selects)
                .replace(READS, rules);
            world.agent.policy(name, &Policy::from_text(&text)).unwrap();
        };
        let pods = format!("cgroup = [\"{slice}/pods/*\"]");
        stand(
            "billing",
            &format!("{pods}\ncontainer = {{ engine = \"podman\", labels = {{ project = \"billing\" }} }}"),
            READS,
        );
        stand(
            "report",
            &format!("{pods}\ncontainer = {{ labels = {{ project = \"report\" }} }}"),
            "",
        );
        stand(
            "imaged",
            &format!(
                "{pods}\ncontainer = {{ image = [\"registry.acme.test/billing/*\"], labels = {{ project = \"imaged\" }} }}"
            ),
            READS,
        );
        stand(
            "by-hand",
            &format!(
                "cgroup = [\"{slice}/oci/*\"]\ncontainer = {{ engine = \"oci\", labels = {{ project = \"by-hand\" }} }}"
            ),
            READS,
        );
        world.agent.stop().unwrap();
        world.agent.resume().unwrap();
        let namespace = Netns::create(net, number).unwrap();
        let server = SocketAddr::from(([127, 0, 0, 1], world.server.port()));
        let door = Faulty::start(format!("{}:{port}", namespace.host()).parse().unwrap(), server).unwrap();
        Self {
            podman,
            namespace,
            _door: door,
            _relay: relay,
            world,
            slice,
            port,
        }
    }

    fn psql(&self, sql: &str) -> Vec<String> {
        let port = self.port.to_string();
        [
            "psql",
            "-X",
            "-qAt",
            "-h",
            self.namespace.host(),
            "-p",
            &port,
            "-U",
            "nobody",
            "-d",
            DATABASE,
            "-c",
            sql,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// A container of podman's with these arguments besides, without its command.
    fn container(&self, more: &[&str]) -> Command {
        let mut command = self.podman.run(Runtime::Runc, self.namespace.pid());
        command
            .args(["--cgroup-parent", &format!("{}/pods", self.slice)])
            .args(more)
            .arg("--rootfs")
            .arg(root());
        command
    }

    fn ran(&self, more: &[&str], command: &[String]) -> Ended {
        job::run_within(self.container(more).args(command), LIMIT).unwrap()
    }

    fn asks(&self, more: &[&str]) -> Ended {
        self.ran(more, &self.psql(WHO))
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.world.agent.cli("status", &["--json"]).unwrap()).unwrap()
    }

    /// The selectors by which cgroups are under a policy now.
    fn selected(&self, workload: &str) -> Vec<String> {
        let status = self.status();
        let workloads = status["workloads"].as_array().unwrap();
        let found = workloads.iter().find(|found| found["name"] == workload).unwrap();
        let by = found["selected_by"].as_array().unwrap().iter();
        by.map(|by| by.as_str().unwrap().to_owned()).collect()
    }

    fn warnings(&self) -> String {
        self.status()["warnings"].to_string()
    }
}

#[test]
fn containers_that_differ_in_a_label_alone_are_under_different_policies() {
    let stand = Stand::new(21);
    let _service = stand.podman.serve().unwrap();
    let read = stand.asks(&["--label", "project=billing", "--name", "one"]);
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}\n{}", stand.world.agent.log());
    let last = stand.world.last_session().unwrap();
    let open = &last["open"];
    assert_eq!(open["workload"], "billing", "{last}");
    let cgroup = &open["identity"]["cgroup"];
    assert_eq!(cgroup["says_engine"]["engine"], "podman", "{last}");
    assert_eq!(cgroup["says_engine"]["name"], "one", "{last}");
    assert_eq!(cgroup["says_engine"]["labels"]["project"], "billing", "{last}");
    let by = "container of podman with label project = \"billing\"";
    assert_eq!(cgroup["selected_by"], by, "{last}");

    let refused = stand.asks(&["--label", "project=report"]);
    assert!(refused.stderr.contains(REFUSED), "{refused:?}");
    assert_eq!(stand.world.last_session().unwrap()["open"]["workload"], "report");

    // Nobody's: by no label, by another one, and by whatever a container says of itself.
    for lies in [
        &[][..],
        &["--label", "project=other"],
        &["--label", "Project=billing"],
        &[
            "--env",
            "project=billing",
            "--hostname",
            "billing",
            "--name",
            "billing",
        ],
        &["--annotation", "project=billing"],
    ] {
        let free = stand.asks(lies);
        assert!(free.stderr.contains(FREE), "{lies:?} {free:?}");
    }
    assert!(!stand.warnings().contains("is not known"), "{}", stand.warnings());
}

#[test]
fn an_image_is_what_the_engine_says_and_its_labels_are_not_the_container_s() {
    let stand = Stand::new(22);
    let _service = stand.podman.serve().unwrap();
    let (ours, lies) = (
        "registry.acme.test/billing/job:1",
        "registry.acme.test/other/job:1",
    );
    stand.podman.image(ours, &[("built", "yes")]).unwrap();
    stand.podman.image(lies, &[("project", "billing")]).unwrap();
    let parent = format!("{}/pods", stand.slice);
    let ran = |more: &[&str], image: &str| {
        let more: Vec<&str> = ["--cgroup-parent", &parent].iter().chain(more).copied().collect();
        let mut command = stand.podman.run_image(stand.namespace.pid(), &more, image);
        job::run_within(command.args(stand.psql(WHO)), LIMIT).unwrap()
    };
    let read = ran(&["--label", "project=imaged"], ours);
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}\n{}", stand.world.agent.log());
    let last = stand.world.last_session().unwrap();
    assert_eq!(last["open"]["workload"], "imaged", "{last}");
    assert_eq!(
        last["open"]["identity"]["cgroup"]["says_engine"]["image"], ours,
        "{last}"
    );
    for (more, image) in [
        (&["--label", "project=imaged"][..], lies),
        (&[], ours),
        (&[], lies),
    ] {
        let free = ran(more, image);
        assert!(free.stderr.contains(FREE), "{more:?} {image} {free:?}");
    }
}

/// A container that runs until it is dropped.
struct Sleeper<'a>(&'a Stand, String);

impl<'a> Sleeper<'a> {
    fn start(stand: &'a Stand, name: &str, more: &[&str]) -> Self {
        let more: Vec<&str> = ["--detach", "--name", name].iter().chain(more).copied().collect();
        let sleeps = ["sleep".to_owned(), "600".to_owned()];
        let ended = stand.ran(&more, &sleeps);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Self(stand, name.to_owned())
    }

    fn asks(&self) -> Ended {
        let mut command = self.0.podman.command(&["exec", &self.1]);
        job::run_within(command.args(self.0.psql(WHO)), LIMIT).unwrap()
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        run(&mut self.0.podman.command(&["rm", "--force", "--time", "0", &self.1])).ok();
    }
}

#[test]
fn a_container_of_which_nobody_says_what_it_is_is_refused_and_told_why() {
    let stand = Stand::new(23);
    let billing = ["--label", "project=billing"];
    // With the hook it is not started.
    let ended = stand.asks(&billing);
    assert_ne!(ended.code, Some(0), "{ended:?}");
    for part in [
        "is not started",
        "podman cannot be asked",
        "systemctl enable --now podman.socket",
    ] {
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
    // Without it, it runs, and is refused.
    let no_hooks = stand.podman.no_hooks().unwrap().display().to_string();
    let billing = ["--hooks-dir", &no_hooks, "--label", "project=billing"];
    let other = ["--hooks-dir", &no_hooks];
    let (billing, other) = (
        Sleeper::start(&stand, "billing", &billing),
        Sleeper::start(&stand, "other", &other),
    );
    for container in [&billing, &other] {
        let refused = container.asks();
        assert!(refused.stderr.contains("Operation not permitted"), "{refused:?}");
    }
    let warnings = eventually("the status to say why", Duration::from_secs(10), || {
        let warnings = stand.warnings();
        warnings.contains("podman.socket").then_some(warnings)
    })
    .unwrap();
    assert!(
        warnings.contains(&format!("{}/pods/libpod-", stand.slice)),
        "{warnings}"
    );

    // The engine is there: each becomes what it is, and nothing is warned of any more.
    let _service = stand.podman.serve().unwrap();
    eventually("the containers to be known", Duration::from_secs(20), || {
        (!stand.warnings().contains("is not known")).then_some(())
    })
    .unwrap();
    let read = billing.asks();
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}");
    let free = other.asks();
    assert!(free.stderr.contains(FREE), "{free:?}");
}

#[test]
fn a_reload_and_a_restart_look_anew_at_containers_that_run() {
    let mut stand = Stand::new(24);
    let service: Service = stand.podman.serve().unwrap();
    let container = Sleeper::start(&stand, "job", &["--label", "project=report"]);
    let refused = container.asks();
    assert!(refused.stderr.contains(REFUSED), "{refused:?}");
    assert_eq!(
        stand.selected("report"),
        ["container with label project = \"report\""]
    );
    assert!(stand.selected("billing").is_empty());
    // From here on nobody can be asked: what was said before counts.
    drop(service);
    let policies = stand.world.agent.dir().join("policies.d");
    let edit = |name: &str, from: &str, to: &str| {
        let path = policies.join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    edit("report", "project = \"report\"", "project = \"none\"");
    edit("billing", "project = \"billing\"", "project = \"report\"");
    stand.world.agent.cli("reload", &[]).unwrap();
    assert_eq!(
        stand.selected("billing"),
        ["container of podman with label project = \"report\""]
    );
    let read = container.asks();
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}");
    std::mem::forget(container);
    stand.world.agent.kill().unwrap();
    stand.world.agent.resume().unwrap();
    let container = Sleeper(&stand, "job".to_owned());
    let read = container.asks();
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}");
    // Two that could be the same container are refused, with both places.
    edit("report", "project = \"none\"", "team = \"x\"");
    let error = stand.world.agent.cli("reload", &[]).unwrap_err().to_string();
    for part in ["can match the same cgroup", "report.toml:5", "billing.toml:5"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_container_of_runc_is_what_its_runtime_tells_the_hook() {
    let stand = Stand::new(25);
    let ran = |cgroup: &str, project: &str, hooked: bool| {
        let arguments = stand.psql(WHO);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let cgroup = format!("{}/oci/{cgroup}", stand.slice);
        let mut bundle = Bundle::new(&stand.slice, &cgroup, &arguments, "true").unwrap();
        bundle.annotate("project", project);
        bundle.in_network_of(stand.namespace.pid());
        let agent = hooked.then_some(&stand.world.agent);
        job::run_within(&mut bundle.run(agent).unwrap(), LIMIT).unwrap()
    };
    let read = ran("one", "by-hand", true);
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}\n{}", stand.world.agent.log());
    assert_eq!(stand.world.last_session().unwrap()["open"]["workload"], "by-hand");
    let free = ran("two", "other", true);
    assert!(free.stderr.contains(FREE), "{free:?}");
    let refused = ran("three", "by-hand", false);
    assert!(refused.stderr.contains("Operation not permitted"), "{refused:?}");
}

/// What a job says of itself is recorded, and holds back mistakes; the outermost process that says it counts.
#[test]
fn a_job_that_says_it_is_another_project_s_is_refused() {
    let mut world = World::start(READS).unwrap();
    world
        .change_policy(|text| {
            text.replace(
                "egress = \"allow\"",
                "egress = \"allow\"\nenvironment = { CI_PROJECT_PATH = \"acme/*\" }",
            )
        })
        .unwrap();
    let asks = |project: Option<&str>| {
        let mut command = world.psql(&["-qAt", "-c", WHO]);
        command
            .env("GITLAB_CI", "true")
            .env("CI_JOB_ID", "77")
            .env("CI_JOB_TOKEN", "secret");
        if let Some(project) = project {
            command.env("CI_PROJECT_PATH", project);
        }
        job::run_within(&mut command, LIMIT).unwrap()
    };
    for (project, expected) in [
        (None, "has no CI_PROJECT_PATH"),
        (
            Some("other/billing"),
            "has \"other/billing\" in CI_PROJECT_PATH, and the policy is for \"acme/*\"",
        ),
    ] {
        let refused = asks(project);
        assert!(refused.stderr.contains(expected), "{refused:?}");
    }
    let read = asks(Some("acme/billing"));
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}");
    let last = world.last_session().unwrap();
    let claims = &last["open"]["identity"]["process"]["claims"];
    assert_eq!(claims["CI_PROJECT_PATH"], "acme/billing", "{last}");
    assert_eq!(claims["CI_JOB_ID"], "77", "{last}");
    assert!(!last.to_string().contains("secret"), "{last}");

    let port = world.address.port();
    let script = format!(
        "CI_PROJECT_PATH=acme/lie psql -X -qAt -h 127.0.0.1 -p {port} -d {DATABASE} -c '{WHO}'; exit $?"
    );
    let mut command = job::command(&world.job, NOBODY, "sh");
    command
        .args(["-c", &script])
        .env("GITLAB_CI", "true")
        .env("CI_PROJECT_PATH", "acme/billing");
    let read = job::run_within(&mut command, LIMIT).unwrap();
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}");
    let last = world.last_session().unwrap();
    assert_eq!(
        last["open"]["identity"]["process"]["claims"]["CI_PROJECT_PATH"], "acme/billing",
        "{last}"
    );
}

#[test]
fn jobs_of_gitlab_s_docker_executor_are_told_apart_by_the_runner_s_labels() {
    let mut world = World::start(READS).unwrap();
    let slice = world.job.path().trim_end_matches("/job").to_owned();
    let docker = Docker::start(&world.agent, &slice).unwrap();
    let socket = docker.socket();
    world
        .agent
        .configure(&format!("[containers]\ndocker = \"{}\"", socket.display()))
        .unwrap();
    world
        .change_policy(|text| {
            let cgroup = format!("cgroup = [\"{slice}/job\"]");
            assert!(text.contains(&cgroup), "{text}");
            let container = format!(
                "cgroup = [\"{slice}/docker/*\"]\ncontainer = {{ engine = \"docker\", image = [\"registry.acme.test/ci/*\"], \
                 labels = {{ \"{PROJECT}\" = \"4711\" }} }}"
            );
            text.replace(&cgroup, &container)
        })
        .unwrap();
    let (image, lies) = ("registry.acme.test/ci/job:1", "registry.acme.test/ci/lies:1");
    docker.image(image, &[]).unwrap();
    docker.image(lies, &[(PROJECT, "4711")]).unwrap();
    let psql = format!(
        "psql -X -qAt -h 127.0.0.1 -p {} -U nobody -d {DATABASE} -c '{WHO}'",
        world.address.port()
    );
    let ran = |more: &[&str], image: &str, script: &str| {
        let mut command = docker.run(more, image);
        job::run_within(command.args(["sh", "-c", script]), LIMIT).unwrap()
    };
    let (ours, theirs) = (format!("{PROJECT}=4711"), format!("{PROJECT}=815"));
    let hooked = ["--runtime", "tollgate", "--label"];
    let read = ran(&[&hooked[..], &[&ours]].concat(), image, &psql);
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}\n{}", world.agent.log());
    let last = world.last_session().unwrap();
    let said = &last["open"]["identity"]["cgroup"]["says_engine"];
    assert_eq!(said["engine"], "docker", "{last}");
    assert_eq!(said["image"], image, "{last}");
    assert_eq!(said["labels"][PROJECT], "4711", "{last}");
    for (more, image) in [
        ([&hooked[..], &[&theirs]].concat(), image),
        (
            vec!["--env", "CI_PROJECT_ID=4711", "--name", "runner-4711"],
            image,
        ),
        // The image's author wrote the label into it.
        (vec![], lies),
        ([&hooked[..], &[&ours]].concat(), lies),
    ] {
        // Refused until it is known, and then not under the policy.
        let script = format!(
            "until said=$({psql} 2>&1) || case $said in *permitted*) false;; esac; do sleep 0.05; done; echo \"$said\""
        );
        let free = ran(&more, image, &script);
        assert!(free.stdout.contains(FREE), "{more:?} {image} {free:?}");
    }
    // Without the hook it may have to wait, and gets by nobody.
    let script = format!("for turn in $(seq 200); do {psql} && exit 0; sleep 0.05; done; exit 1");
    let read = ran(&["--label", &ours], image, &script);
    assert_eq!(read.stdout.trim(), ROLE, "{read:?}\n{}", world.agent.log());
    assert!(!read.stderr.contains(FREE), "{read:?}");
}

/// Set by GitLab's runner on every container of a job.
const PROJECT: &str = "com.gitlab.gitlab-runner.project.id";
