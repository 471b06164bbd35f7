use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::{import, lines, outcomes, people, rows};

#[tokio::test]
async fn a_table_creates_and_changes_users_and_says_what_became_of_each_line() -> anyhow::Result<()>
{
    let lab = PortalLab::start().await?;
    let table = "name,email,extension\nAnn,ann@example.org,1500\nBob,bob@example.org,\nEve,eve@example.org,1000";
    let told = import(&lab.client, "/imports/users", table)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(outcomes(&told), ["created"; 3]);
    // Who names a number comes before those who take the lowest free one; the last line counts.
    let numbers: Vec<_> = told["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|line| &line["extension"])
        .collect();
    assert_eq!(numbers, [1500, 1001, 1000]);
    for line in told["lines"].as_array().into_iter().flatten() {
        let id = line["id"].as_str().unwrap_or_default();
        let user = lab
            .client
            .get(&format!("/users/{id}"))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(
            (&user["email"], &user["extension"]),
            (&line["key"], &line["extension"])
        );
        let device = lab
            .client
            .get(&format!("/devices?user_id={id}"))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(device[0]["sip_username"], line["sip"]["username"]);
        assert_eq!(line["sip"]["password"].as_str().map(str::len), Some(24));
    }
    Ok(())
}

#[tokio::test]
async fn a_line_changes_what_it_names_of_whom_it_means() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let table = "name,email\nAnn,ann@example.org\nBob,bob@example.org\nEve,eve@example.org\n";
    let told = import(&lab.client, "/imports/users", table).await?;
    let told = told.expect(200)?.json()?;
    let ann = &told["lines"][0]["id"];
    let table = format!(
        "Email;NAME;dnd;id;forward_busy\nANN@example.org;Anna;TRUE;;\n;Bobby;;{};00420\neve@example.org;Eve;false;;\n",
        told["lines"][1]["id"].as_str().unwrap_or_default()
    );
    let told = import(&lab.client, "/imports/users", &table)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(outcomes(&told), ["changed", "changed", "unchanged"]);
    assert_eq!(
        told["counts"],
        json!({"created": 0, "changed": 2, "unchanged": 1, "refused": 0})
    );
    let changes = &told["lines"][0]["changes"];
    let fields: BTreeMap<&str, (&Value, &Value)> = changes
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| {
            (
                change["field"].as_str().unwrap_or_default(),
                (&change["before"], &change["after"]),
            )
        })
        .collect();
    assert_eq!(fields["name"], (&json!("Ann"), &json!("Anna")));
    assert_eq!(fields["dnd"], (&json!(false), &json!(true)));
    assert_eq!(
        told["lines"][1]["changes"][0]["field"].as_str().map(|_| ()),
        Some(())
    );
    let user = lab
        .client
        .get(&format!("/users/{}", ann.as_str().unwrap_or_default()))
        .await?
        .json()?;
    assert_eq!(
        (&user["name"], &user["dnd"]),
        (&json!("Anna"), &json!(true))
    );
    Ok(())
}

#[tokio::test]
async fn all_or_nothing_refuses_the_whole_table_and_tells_of_every_fault() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    import(
        &lab.client,
        "/imports/users",
        "name,email\nAnn,ann@example.org",
    )
    .await?
    .expect(200)?;
    let before = rows(&lab).await?;
    let table = "name,email,extension,status,id,forward_delay_seconds\n\
        Good,good@example.org,,,,\n\
        Taken,other@example.org,1000,,,\n\
        ,no-name@example.org,,,,\n\
        Bad,bad,99,gone,,4\n\
        Twice,good@example.org,,,,\n\
        Nobody,,,,00000000-0000-7000-8000-000000000001,\n\
        Unnamed,,,,,\n";
    let reply = import(&lab.client, "/imports/users", table).await?;
    assert_eq!(reply.problem(422)?, "import_refused");
    let told = &reply.json()?["import"];
    let told = lines(told);
    let errors: Vec<_> = told
        .iter()
        .map(|(line, _, errors)| (*line, errors.join(", ")))
        .collect();
    let expected = [
        (2, ""),
        (3, "extension extension_taken"),
        (4, "name missing"),
        (
            5,
            "email malformed, status unknown_value, forward_delay_seconds out_of_range",
        ),
        (6, "email repeated"),
        (7, "id user_not_found"),
        (8, "email missing"),
    ];
    assert_eq!(
        errors,
        expected.map(|(line, errors)| (line, errors.to_owned()))
    );
    assert_eq!(rows(&lab).await?, before, "nothing was changed");
    // Of what was undone there is neither an id nor a password.
    let good = &reply.json()?["import"]["lines"][0];
    assert!(good["id"].is_null() && good["sip"].is_null(), "{good}");
    // Line by line, the good one counts, alone.
    let reply = import(&lab.client, "/imports/users?mode=per_line", table).await?;
    let told = reply.expect(200)?.json()?;
    assert_eq!(
        told["counts"],
        json!({"created": 1, "changed": 0, "unchanged": 0, "refused": 6})
    );
    let after = rows(&lab).await?;
    assert_eq!(after[..2], [before[0] + 1, before[1] + 1]);
    Ok(())
}

#[tokio::test]
async fn a_preview_tells_the_same_and_does_nothing() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    import(
        &lab.client,
        "/imports/users",
        "name,email\nAnn,ann@example.org",
    )
    .await?
    .expect(200)?;
    let before = rows(&lab).await?;
    let table =
        "name,email,voicemail_pin\nAnna,ann@example.org,4711\nBob,bob@example.org,\nBad,,\n";
    let preview = import(&lab.client, "/imports/users?preview=true", table).await?;
    let preview = preview.expect(200)?.json()?;
    assert_eq!(outcomes(&preview), ["changed", "created", "refused"]);
    assert_eq!(rows(&lab).await?, before);
    assert!(preview["lines"][1]["sip"].is_null() && preview["lines"][1]["id"].is_null());
    let real = import(&lab.client, "/imports/users?mode=per_line", table).await?;
    let real = real.expect(200)?.json()?;
    assert_eq!(lines(&real), lines(&preview));
    assert_eq!(
        real["lines"][1]["extension"],
        preview["lines"][1]["extension"]
    );
    // The PIN is hashed, and stands in no answer.
    assert!(!real.to_string().contains("4711"));
    Ok(())
}

#[tokio::test]
async fn the_same_upload_under_the_same_key_is_done_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let table = "name,email\nAnn,ann@example.org\n";
    let send = async |table: &str| {
        let request = lab.client.request(Method::POST, "/imports/users");
        let request = request.header("Idempotency-Key", "upload-1");
        request.body("text/csv", table.to_owned()).send().await
    };
    let first = send(table).await?.expect(200)?;
    let before = rows(&lab).await?;
    let again = send(table).await?.expect(200)?;
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(rows(&lab).await?, before);
    assert_eq!(
        send("name,email\nBob,b@example.org\n")
            .await?
            .problem(422)?,
        "idempotency_key_reused"
    );
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_no_table_is_refused_as_a_whole() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let before = rows(&lab).await?;
    let wide = format!("email{}\na@example.org", ",".repeat(256));
    for (table, field, code) in [
        ("", "body", "empty"),
        ("name\nAnn", "email", "missing"),
        ("email,email\na@example.org,", "email", "repeated"),
        (
            "email,password\na@example.org,x",
            "password",
            "unknown_field",
        ),
        ("email,name\n\"a@example.org,Ann", "line 2", "malformed"),
        // One mark here and one much later do not make one cell of all between them.
        (
            "email,name\n\"a@example.org,Ann\nb@example.org,Bob\n\"c@example.org,Eve",
            "line 2",
            "malformed",
        ),
        (
            "name,email\nAnn,a@example.org\n\"Bob,b@example.org\nEve\",c@example.org",
            "line 3",
            "malformed",
        ),
        (
            "email,metadata\na@example.org,\"{}\nb@example.org,{}\"",
            "line 2",
            "malformed",
        ),
        ("sep=\nemail,name\na@example.org,Ann", "line 1", "malformed"),
        (&wide, "line 1", "too_many"),
    ] {
        let reply = import(&lab.client, "/imports/users", table).await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{table}");
        let error = &reply.json()?["errors"][0];
        assert_eq!(
            (&error["field"], &error["code"]),
            (&json!(field), &json!(code))
        );
    }
    let latin = b"email,name\nzoe@example.org,Zo\xeb\n";
    let send = async |kind: &str| {
        let request = lab.client.request(Method::POST, "/imports/users");
        request.body(kind, latin.to_vec()).send().await
    };
    let error = &send("text/csv").await?.expect(400)?.json()?["errors"][0];
    assert_eq!(error["field"], "line 2");
    assert_eq!(
        send("application/json").await?.problem(415)?,
        "unsupported_media_type"
    );
    assert_eq!(rows(&lab).await?, before);
    // JSON is as well written in several lines, and 255 cells to the right hold nothing.
    let table = "email,name,metadata\nann@example.org,Ann,\"{\n  \"\"room\"\": 1\n}\"";
    let table = format!("{table}{}\n", ",".repeat(253));
    let told = import(&lab.client, "/imports/users", &table).await?;
    assert_eq!(outcomes(&told.expect(200)?.json()?), ["created"]);
    let told = send("text/csv; charset=windows-1252")
        .await?
        .expect(200)?
        .json()?;
    let id = told["lines"][0]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let user = lab.client.get(&format!("/users/{id}")).await?.json()?;
    assert_eq!(user["name"], "Zoë");
    Ok(())
}

#[tokio::test]
async fn every_change_of_an_import_stands_in_the_audit_trail() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = people(0..700);
    let table = format!("name,email\n{users}Last,u0@example.org\n");
    let reply = import(&lab.client, "/imports/users?mode=per_line", &table)
        .await?
        .expect(200)?;
    let request = reply.header("x-request-id").to_owned();
    assert_eq!(reply.json()?["counts"]["refused"], 1);
    let pool = lab.database.pool().await?;
    let told: Vec<(String, i64)> = sqlx::query_as(
        "select action, count(distinct entity_id) from audit_entry where request_id = $1
         group by action order by action",
    )
    .bind(&request)
    .fetch_all(&pool)
    .await?;
    assert_eq!(
        told,
        [
            ("device.created".to_owned(), 700),
            ("user.created".to_owned(), 700)
        ]
    );
    let numbers: (i32, i32, i64) =
        sqlx::query_as("select min(number), max(number), count(*) from extension")
            .fetch_one(&pool)
            .await?;
    assert_eq!(numbers, (1000, 1699, 700));
    let free: i32 = sqlx::query_scalar("select ext_free_from from tenant where slug = 'default'")
        .fetch_one(&pool)
        .await?;
    assert_eq!(free, 1700);
    Ok(())
}
