//! Real programs speak their own protocols through the mesh, and notice nothing.

use std::os::unix::fs::chown;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use heddle_tests::applications::{echo_tcp, first_byte, greeter, tcp_client};
use heddle_tests::certificate::Minted;
use heddle_tests::load::Load;
use heddle_tests::manifest::{Pod, Service, documents};
use heddle_tests::metrics::Metrics;
use heddle_tests::peer::{self, Presented};
use heddle_tests::requirements::{self, Tool};
use heddle_tests::wait;
use heddle_tests::world::{Plan, World};

#[tokio::test]
async fn psql_talks_to_postgresql_through_the_mesh() -> Result<()> {
    let Some(metrics) = psql(&["--warm-connections", "0"]).await? else { return Ok(()) };
    let handshakes =
        metrics.require("heddle_tls_handshakes_total", &[("side", "server"), ("outcome", "ok")])?;
    ensure!(handshakes >= 5.0, "{}", metrics.show("heddle_tls_handshakes_total"));
    Ok(())
}

#[tokio::test]
async fn psql_talks_to_postgresql_over_connections_that_are_kept() -> Result<()> {
    let Some(metrics) = psql(&[]).await? else { return Ok(()) };
    let carried = [("direction", "inbound"), ("tls", "mtls")];
    let connections = metrics.require("heddle_tcp_connections_total", &carried)?;
    ensure!(connections >= 5.0, "{}", metrics.show("heddle_tcp_connections_total"));
    let handshakes = metrics.sum("heddle_tls_handshakes_total", &[("outcome", "ok")]);
    ensure!(handshakes < connections, "{}", metrics.show("heddle_tls_handshakes_total"));
    Ok(())
}

/// Five statements and more, each by a client of its own, between proxies with these arguments. Gives what
/// the database's proxy has counted; nothing where there is no PostgreSQL.
async fn psql(proxies: &[&str]) -> Result<Option<Metrics>> {
    if requirements::skip(&[Tool::Postgres])? {
        return Ok(None);
    }
    let data = tempfile::tempdir()?;
    let program =
        |name: &str| requirements::find(name).map(|path| path.to_string_lossy().into_owned());
    let (initdb, postgres) =
        (program("initdb").context("initdb")?, program("postgres").context("postgres")?);
    let directory = data.path().to_string_lossy().into_owned();
    let script = format!(
        "set -e; rm -rf {directory}/data; \
         {initdb} -D {directory}/data -U postgres --auth=trust --no-sync >{directory}/initdb.log; \
         echo 'host all all all trust' >>{directory}/data/pg_hba.conf; \
         exec {postgres} -D {directory}/data -k {directory} -c listen_addresses='*' -c fsync=off"
    );
    // PostgreSQL refuses to be root, which in a world every user is.
    let pod = Pod::new("database").command(&["sh", "-c", &script]).port(5432).strict().user(NOBODY);
    if nix::unistd::geteuid().is_root() {
        chown(data.path(), Some(NOBODY), Some(NOBODY))?;
    }
    let world = Plan::new("postgres")
        .proxies(proxies)
        .file("pods.yaml", documents(&[Pod::new("client"), pod]))
        .file("service.yaml", Service::new("database").port(5432, 5432).to_string())
        .start()
        .await?;
    let psql = |statement: &str| {
        [
            "psql",
            "--no-psqlrc",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "database",
            "-U",
            "postgres",
            "-c",
            statement,
        ]
        .map(ToOwned::to_owned)
    };
    // It listens a moment before it lets anybody in.
    let answer = wait::until("PostgreSQL lets us in", Duration::from_secs(30), async || {
        world.ask("client", &psql("select 40 + 2")).await
    })
    .await?;
    ensure!(answer.trim() == "42", "{answer}");
    world.ask("client", &psql("create table loom (thread int primary key, colour text)")).await?;
    let filled = "insert into loom select n, repeat('red', 20) from generate_series(1, 20000) n";
    world.ask("client", &psql(filled)).await?;
    let rows = world.ask("client", &psql("select * from loom order by thread")).await?;
    ensure!(rows.lines().count() == 20_000, "{} rows", rows.lines().count());
    ensure!(rows.lines().last() == Some(&format!("20000|{}", "red".repeat(20))), "the last row");
    let refused = world.run("client", &psql("select * from nothing")).await?;
    ensure!(refused.code != 0 && refused.stderr_text().contains("does not exist"), "{refused:?}");
    let metrics = Metrics::of(&world, "database").await?;
    world.finish().await?;
    Ok(Some(metrics))
}

#[tokio::test]
async fn redis_cli_talks_to_redis_through_the_mesh() -> Result<()> {
    if requirements::skip(&[Tool::Redis])? {
        return Ok(());
    }
    let command = [
        "redis-server",
        "--port",
        "6379",
        "--bind",
        "*",
        "-::*",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
        "/tmp",
    ];
    let world = Plan::new("redis")
        .file(
            "pods.yaml",
            documents(&[
                Pod::new("client"),
                Pod::new("cache").command(&command).port(6379).strict(),
            ]),
        )
        .file("service.yaml", Service::new("cache").port(6379, 6379).to_string())
        .start()
        .await?;
    let cli = ["redis-cli", "-h", "cache"];
    let ask = async |words: &[&str]| world.ask("client", &[&cli, words].concat()).await;
    ensure!(ask(&["PING"]).await?.trim() == "PONG");
    ensure!(ask(&["SET", "thread", "blue"]).await?.trim() == "OK");
    ensure!(ask(&["GET", "thread"]).await?.trim() == "blue");
    let counted = ask(&["-r", "500", "INCR", "passes"]).await?;
    ensure!(counted.lines().last() == Some("500"), "500 commands on one connection: {counted:?}");
    let large = "x".repeat(3_000_000);
    let stored = world
        .run_with_input(
            "client",
            &[cli[0], cli[1], cli[2], "-x", "SET", "large"],
            large.into_bytes(),
        )
        .await?;
    ensure!(stored.stdout_text().trim() == "OK", "{stored:?}");
    ensure!(ask(&["STRLEN", "large"]).await?.trim() == "3000000");
    ensure!(
        ask(&["GET", "large"]).await?.trim().len() == 3_000_000,
        "the large value came back short"
    );
    world.finish().await
}

#[tokio::test]
async fn curl_fetches_files_from_nginx_through_the_mesh() -> Result<()> {
    if requirements::skip(&[Tool::Curl, Tool::Nginx])? {
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let root = directory.path().to_string_lossy().into_owned();
    let settings = format!(
        "user root; daemon off; master_process off; pid {root}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; \
         client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c; \
         uwsgi_temp_path {root}/d; scgi_temp_path {root}/e; server {{ listen 80; listen [::]:80; root {root}; }} }}"
    );
    std::fs::write(directory.path().join("nginx.conf"), settings)?;
    let content: Vec<u8> =
        (0..5_000_000_u32).map(|n| n.to_le_bytes()[usize::from(n % 3 == 0)]).collect();
    std::fs::write(directory.path().join("large.bin"), &content)?;
    let nginx = requirements::find("nginx").context("nginx")?.to_string_lossy().into_owned();
    let command = [nginx.as_str(), "-p", &root, "-c", &format!("{root}/nginx.conf")];
    let world = Plan::new("nginx")
        .file(
            "pods.yaml",
            documents(&[Pod::new("client"), Pod::new("web").command(&command).port(80).strict()]),
        )
        .file("service.yaml", Service::new("web").port(80, 80).to_string())
        .start()
        .await?;
    let whole = world.run("client", &["curl", "-sS", "http://web/large.bin"]).await?;
    ensure!(
        whole.stdout == content,
        "{} of {} bytes, or others",
        whole.stdout.len(),
        content.len()
    );
    let part =
        world.run("client", &["curl", "-sS", "-r", "1000-1999", "http://web/large.bin"]).await?;
    ensure!(Some(part.stdout.as_slice()) == content.get(1000..2000), "a part of it is another");
    let missing = world
        .curl("client", &["-o", "/dev/null", "-w", "%{http_code}", "http://web/missing"])
        .await?;
    ensure!(missing == "404", "the application's own answer is {missing}");
    // nginx takes bodies of a megabyte and answers larger ones before it has them, asked or not.
    let file = format!("@{root}/large.bin");
    for expect in ["expect: 100-continue", "expect:"] {
        let upload =
            ["-H", expect, "--data-binary", &file, "-w", "%{http_code}", "-o", "/dev/null"];
        let said = world.curl("client", &[&upload[..], &["http://web/large.bin"]].concat()).await?;
        ensure!(said == "413", "{expect:?}: {said}");
    }
    let head = world.curl("client", &["--head", "http://web/large.bin"]).await?.to_lowercase();
    ensure!(head.contains("content-length: 5000000"), "{head}");
    world.finish().await
}

#[tokio::test]
async fn http2_without_tls_is_carried_as_http2() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    let store =
        Pod::new("store").command(&["meshctl", "shop", "store", "--listen", "9000"]).port(9000);
    let api = Pod::new("api")
        .command(&["meshctl", "shop", "api", "--listen", "8080"])
        .port(8080)
        .strict();
    let services = [
        Service::new("store").port(9000, 9000),
        Service::new("api").port(8080, 8080).port_speaking(8081, 8080, "kubernetes.io/h2c"),
    ];
    let world = Plan::new("http2")
        .file("pods.yaml", documents(&[store, api, Pod::new("client")]))
        .file("services.yaml", documents(&services))
        .start()
        .await?;
    // Detected on one port, declared on the other.
    for port in [8080, 8081] {
        let url = format!("http://api:{port}/");
        let arguments = [
            "--http2-prior-knowledge",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            &url,
        ];
        let answer = world.curl("client", &arguments).await?;
        ensure!(answer == "2 200", "{url}: {answer}");
        let report =
            Load::on(&url).http2().requests(1000).connections(4).run(&world, "client").await?;
        report.nothing_lost()?;
        ensure!(report.of("v1") == 1000, "{report:?}");
    }
    let report = Load::on("http://api:8080/").requests(200).run(&world, "client").await?;
    report.nothing_lost().context("HTTP/1 on the same port")?;
    world.finish().await
}

#[tokio::test]
async fn an_applications_own_tls_is_carried_unread() -> Result<()> {
    if requirements::skip(&[Tool::Curl])? {
        return Ok(());
    }
    // The certificate is not known before the world is there, so the pod begins without it.
    let world = Plan::new("own-tls")
        .file(
            "pods.yaml",
            documents(&[Pod::new("client"), Pod::new("secure"), Pod::new("plain").unmeshed()]),
        )
        .file("service.yaml", Service::new("secure").port(443, 8443).to_string())
        .start()
        .await?;
    let own = Minted::self_signed("secure")?;
    let presented = Presented::write(&world, "secure", &own)?;
    let mut command = peer::serve(8443, &presented)?;
    command.extend(["--protocol".to_owned(), "http/1.1".to_owned()]);
    let authority = world.path("certificates").join("secure.pem").to_string_lossy().into_owned();
    let address = world.address("secure").await?;
    let serving = world.run("secure", &command);
    let observed = async {
        for (from, resolve) in [("client", None), ("plain", Some(format!("secure:8443:{address}")))]
        {
            let url = if resolve.is_some() { "https://secure:8443/" } else { "https://secure/" };
            // Checked against the application's own certificate: nobody came in between.
            let mut arguments = vec!["--http1.1", "--cacert", &authority, url];
            if let Some(resolve) = &resolve {
                arguments.extend(["--resolve", resolve]);
            }
            let answer =
                wait::until("the application answers", Duration::from_secs(20), async || {
                    world.curl(from, &arguments).await
                })
                .await
                .with_context(|| format!("from {from}"))?;
            ensure!(answer == "impostor", "{answer}");
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = serving => anyhow::bail!("the application ended: {}", ended?.stderr_text()),
        observed = observed => observed?,
    }
    world.finish().await
}

#[tokio::test]
async fn a_client_that_ends_its_half_of_a_connection_is_still_answered() -> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    let world = Plan::new("half")
        .file(
            "pods.yaml",
            documents(&[
                Pod::new("client"),
                Pod::new("lines").command(&echo_tcp(7000)).port(7000).strict(),
            ]),
        )
        .file("service.yaml", Service::new("lines").port(7000, 7000).to_string())
        .start()
        .await?;
    let bytes = vec![b'x'; 3_000_000];
    let output = world.run_with_input("client", &tcp_client("lines", 7000), bytes).await?;
    ensure!(output.stdout_text() == "ended after 3000000 bytes\n", "{output:?}");
    let output = world.run_with_input("client", &tcp_client("lines", 7000), Vec::new()).await?;
    ensure!(output.stdout_text() == "ended after 0 bytes\n", "{output:?}");
    world.finish().await
}

#[tokio::test]
async fn the_first_byte_of_a_server_that_speaks_first_is_late_by_less_than_a_tenth_of_a_second()
-> Result<()> {
    if requirements::skip(&[Tool::Python])? {
        return Ok(());
    }
    // One port that is known to be opaque, and one whose protocol is looked for.
    let ports = [3306, 7001];
    let server = |name: &str, port: u16| Pod::new(name).command(&greeter(port)).port(port);
    let world = Plan::new("first-byte")
        .file(
            "meshed.yaml",
            documents(&[server("known", 3306).strict(), server("detected", 7001).strict()]),
        )
        .file(
            "plain.yaml",
            documents(&[
                server("plain-known", 3306).unmeshed(),
                server("plain-detected", 7001).unmeshed(),
            ]),
        )
        .file("clients.yaml", documents(&[Pod::new("client"), Pod::new("plain-client").unmeshed()]))
        .file(
            "services.yaml",
            documents(&[
                Service::new("known").port(3306, 3306),
                Service::new("detected").port(7001, 7001),
            ]),
        )
        .start()
        .await?;
    for (name, port) in ["known", "detected"].into_iter().zip(ports) {
        let plain = world.address(&format!("plain-{name}")).await?.to_string();
        let direct = best(&world, "plain-client", &first_byte(&plain, port, 20)).await?;
        let meshed = best(&world, "client", &first_byte(name, port, 20)).await?;
        eprintln!(
            "{name}: first byte after {meshed:.1} ms through the mesh, {direct:.1} ms without"
        );
        ensure!(
            meshed - direct < 100.0,
            "{name}: {meshed} ms through the mesh, {direct} ms without"
        );
        // And the connection goes on as one.
        let output =
            world.run_with_input("client", &tcp_client(name, port), b"thanks\n".to_vec()).await?;
        ensure!(
            output.stdout_text() == "220 good day\nanswered-thanks\nended after 7 bytes\n",
            "{output:?}"
        );
    }
    world.finish().await
}

/// The shortest of several measurements: what the mesh takes, and not what the machine was busy with.
async fn best(world: &World, workload: &str, command: &[String]) -> Result<f64> {
    let measured: Vec<f64> = serde_json::from_str(&world.ask(workload, command).await?)?;
    measured.into_iter().min_by(f64::total_cmp).context("nothing was measured")
}

/// The user that owns nothing.
const NOBODY: u32 = 65_534;
