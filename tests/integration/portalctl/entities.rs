//! Each entity: listed, shown, created, changed, removed.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::{Terminal, ended};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn users() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let create = [
        "user",
        "create",
        "--name",
        "Ada Lovelace",
        "--email",
        "ada@example.org",
    ];
    let said = terminal
        .says(&[&create[..], &["--forward-busy", "+420123456789"]].concat())
        .await?;
    ensure!(
        said.contains("SIP password") && said.contains("busy: +420123456789"),
        "{said}"
    );

    let by_number = terminal.json(&["user", "show", "1000"]).await?;
    let by_address = terminal.json(&["user", "show", "ADA@example.org"]).await?;
    let id = text(&by_number["id"]).to_owned();
    let by_id = terminal.json(&["user", "show", &id]).await?;
    assert_eq!(by_number, by_address);
    assert_eq!(by_number, by_id);
    // What the portal answers, byte for byte.
    let answer = lab.client.get(&format!("/users/{id}")).await?;
    let said = terminal.says(&["user", "show", &id, "--json"]).await?;
    assert_eq!(said.trim_end().as_bytes(), answer.body);

    let edit = [
        "user",
        "edit",
        "1000",
        "--status",
        "suspended",
        "--forward-busy",
        "",
    ];
    terminal
        .says(
            &[
                &edit[..],
                &["--metadata", r#"{"desk": "3.14"}"#, "--dnd", "true"],
            ]
            .concat(),
        )
        .await?;
    let changed = terminal.json(&["user", "show", "1000"]).await?;
    assert_eq!(changed["status"], "suspended");
    assert_eq!(changed["call_forward"]["busy"], Value::Null);
    assert_eq!(
        (&changed["metadata"], &changed["dnd"]),
        (&json!({ "desk": "3.14" }), &json!(true))
    );
    assert_eq!(changed["name"], "Ada Lovelace");
    terminal.fails(2, &["user", "edit", "1000"]).await?;

    let said = terminal.says(&["user", "list", "-q", "ada"]).await?;
    ensure!(
        said.lines().count() == 2 && said.contains("ada@example.org"),
        "{said}"
    );
    let said = terminal.fails(2, &["user", "delete", "1000"]).await?;
    ensure!(
        said.contains("Ada Lovelace") && said.contains("--yes"),
        "{said}"
    );
    let said = terminal.says(&["user", "delete", "1000", "--yes"]).await?;
    ensure!(said.contains("Deleted user Ada Lovelace"), "{said}");
    terminal.fails(4, &["user", "show", "1000"]).await?;
    terminal.fails(4, &["user", "show", &id]).await?;
    terminal.fails(2, &["user", "show", "Ada"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_pin_is_asked_for_and_never_an_argument() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let edit = ["user", "edit", "1000", "--voicemail", "true", "--ask-pin"];
    terminal.run_with(&edit, "4711\n").await?.success()?;
    ensure!(
        terminal
            .says(&["user", "show", "1000"])
            .await?
            .contains("yes, with a PIN")
    );
    terminal.says(&["user", "edit", "1000", "--no-pin"]).await?;
    let said = terminal.says(&["user", "show", "1000"]).await?;
    ensure!(said.contains("yes, without a PIN"), "{said}");
    Ok(())
}

#[tokio::test]
async fn lists_go_on_page_by_page() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    for number in 0..205 {
        lab.create_user(&format!("U{number:03}"), &format!("u{number}@example.org"))
            .await?;
    }
    let all = terminal
        .json(&["user", "list", "--all", "--sort", "-name"])
        .await?;
    let names: Vec<&str> = all
        .as_array()
        .into_iter()
        .flatten()
        .map(|user| text(&user["name"]))
        .collect();
    assert_eq!((names.len(), names[0], names[204]), (205, "U204", "U000"));
    let first = terminal.run(&["user", "list", "--limit", "3"]).await?;
    assert_eq!(first.stdout.lines().count(), 4);
    ensure!(first.stderr.contains("--all"), "{}", first.stderr);
    let more = terminal.json(&["user", "list", "--limit", "202"]).await?;
    assert_eq!(more.as_array().map(Vec::len), Some(202));
    Ok(())
}

#[tokio::test]
async fn tenants_and_what_belongs_to_them() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let range = ["--ext-min", "1000", "--ext-max", "1499"];
    let create = ["tenant", "create", "--slug", "acme", "--name", "Acme Ltd."];
    terminal.says(&[&create[..], &range].concat()).await?;
    ensure!(
        terminal
            .says(&["tenant", "list"])
            .await?
            .contains("1000-1499")
    );
    terminal
        .says(&["tenant", "edit", "acme", "--ext-max", "1999"])
        .await?;
    assert_eq!(
        terminal.json(&["tenant", "show", "acme"]).await?["ext_max"],
        1999
    );

    let carl = [
        "--tenant",
        "acme",
        "user",
        "create",
        "--name",
        "Carl",
        "--email",
        "c@acme.example",
    ];
    let carl = terminal.json(&carl).await?;
    assert_eq!(carl["sip"]["username"], "t2-1000-a");
    terminal.fails(4, &["user", "show", "1000"]).await?;
    let acme = Terminal::signed_in(&lab)
        .await?
        .env("PORTAL_TENANT", "acme");
    acme.says(&["user", "show", "1000"]).await?;
    let said = terminal
        .fails(5, &["tenant", "delete", "acme", "--yes"])
        .await?;
    ensure!(said.contains("tenant_in_use"), "{said}");
    let trail = acme.says(&["audit", "list"]).await?;
    ensure!(
        trail.contains("user.created") && !trail.contains("account.created"),
        "{trail}"
    );
    acme.says(&["user", "delete", "1000", "-y"]).await?;
    terminal
        .says(&["tenant", "delete", "acme", "--yes"])
        .await?;
    terminal
        .fails(4, &["--tenant", "nobody", "user", "list"])
        .await?;
    // What would be another path names nothing.
    terminal
        .fails(4, &["--tenant", "..", "user", "list"])
        .await?;
    Ok(())
}

#[tokio::test]
async fn devices_show_their_passwords_once() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let create = [
        "device",
        "create",
        "--user",
        "ann@example.org",
        "--label",
        "Mobile",
        "--codecs",
        "opus,alaw",
    ];
    let made = terminal.json(&create).await?;
    let (id, password) = (text(&made["id"]), text(&made["sip"]["password"]));
    ensure!(password.len() > 10 && made["codecs"] == json!(["opus", "alaw"]));
    ensure!(
        !terminal
            .says(&["device", "show", id])
            .await?
            .contains(password)
    );

    let said = terminal.fails(5, &["device", "reveal", id]).await?;
    ensure!(said.contains("password_revealed"), "{said}");
    terminal
        .says(&[
            "device",
            "rotate",
            id,
            "--overlap",
            "3600",
            "--hide-password",
        ])
        .await?;
    let said = terminal.says(&["device", "reveal", id]).await?;
    ensure!(
        said.contains("SIP password") && !said.contains(password),
        "{said}"
    );
    let edit = [
        "device",
        "edit",
        id,
        "--end-overlap",
        "--enabled",
        "false",
        "--direct-media",
        "true",
    ];
    let changed = terminal.json(&edit).await?;
    assert_eq!(changed["overlap_until"], Value::Null);
    assert_eq!(
        (&changed["enabled"], &changed["nat"]["direct_media"]),
        (&json!(false), &json!(true))
    );
    let said = terminal
        .says(&["device", "list", "--user", "1000", "--enabled", "false"])
        .await?;
    ensure!(
        said.contains("Mobile") && said.lines().count() == 2,
        "{said}"
    );
    terminal.says(&["device", "delete", id, "--yes"]).await?;
    terminal.fails(4, &["device", "show", id]).await?;
    Ok(())
}

#[tokio::test]
async fn tokens_accounts_and_pbxes() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let create = [
        "token",
        "create",
        "--name",
        "prov",
        "--scopes",
        "users.read,users.write",
    ];
    let token = terminal.json(&create).await?;
    let id = text(&token["id"]);
    let said = terminal.says(&["token", "show", id]).await?;
    ensure!(said.contains("users.read,users.write") && !said.contains(text(&token["token"])));
    ensure!(terminal.says(&["token", "list"]).await?.contains("never"));
    terminal.says(&["token", "revoke", id, "--yes"]).await?;
    terminal.fails(4, &["token", "show", id]).await?;

    let create = [
        "account", "create", "--login", "olga", "--name", "Olga", "--role", "operator",
    ];
    terminal.fails(5, &create).await?;
    terminal
        .says(&[&["--tenant", "default"], &create[..]].concat())
        .await?;
    terminal
        .says(&["account", "edit", "OLGA", "--name", "Olga Nová"])
        .await?;
    ensure!(
        terminal
            .says(&["account", "list", "-q", "olga"])
            .await?
            .contains("Olga Nová")
    );
    let reset = terminal
        .json(&["account", "reset-password", "olga"])
        .await?;
    ensure!(text(&reset["token"]).starts_with("pbxp_"));
    terminal.says(&["account", "unlock", "olga"]).await?;
    terminal
        .says(&["account", "delete", "olga", "--yes"])
        .await?;
    terminal.fails(4, &["account", "show", "olga"]).await?;

    let create = [
        "pbx",
        "create",
        "--name",
        "branch",
        "--agent-address",
        "127.0.0.1:1",
    ];
    terminal
        .says(&[&create[..], &["--transport", "tls=transport-tls"]].concat())
        .await?;
    let edit = [
        "pbx",
        "edit",
        "branch",
        "--transport",
        "tls=",
        "--transport",
        "udp=transport-udp",
    ];
    let changed = terminal.json(&edit).await?;
    assert_eq!(changed["transports"], json!({ "udp": "transport-udp" }));
    ensure!(terminal.says(&["pbx", "list"]).await?.contains("branch"));
    terminal.says(&["pbx", "delete", "branch", "--yes"]).await?;
    terminal.fails(4, &["pbx", "show", "branch"]).await?;
    Ok(())
}

#[tokio::test]
async fn the_audit_trail() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    terminal
        .says(&["user", "edit", "1000", "--name", "Anna"])
        .await?;
    let filter = [
        "audit",
        "list",
        "--action",
        "user.changed",
        "--actor",
        "admin",
    ];
    let since = ["--entity-type", "user", "--since", "2020-01-01T00:00:00Z"];
    let entries = terminal.json(&[&filter[..], &since].concat()).await?;
    assert_eq!(entries.as_array().map(Vec::len), Some(1));
    let said = terminal
        .says(&["audit", "show", text(&entries[0]["id"])])
        .await?;
    ensure!(
        said.contains("- name: \"Ann\"") && said.contains("+ name: \"Anna\""),
        "{said}"
    );
    let none = terminal.run(&["audit", "list", "-q", "zzzz"]).await?;
    ended(&none, 0)?;
    ensure!(none.stdout.is_empty() && none.stderr.contains("none"));
    Ok(())
}
