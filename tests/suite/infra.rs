//! The templates in `infra/`, checked as far as that is possible without Azure: a real parser, a list of what exists in
//! Azure with its sources, and what the code says.

mod database_role;
mod deployment;
mod mistakes;
mod rules;
mod syntax;
mod template;

use std::{collections::BTreeMap, fs};

use orderflow::{
    config::{Settings, StoreUrl},
    entra::Identity,
};

use self::{
    mistakes::MISTAKES,
    rules::{Files, problems},
    template::Template,
};
use crate::support::root;

/// Everything in `infra/` that a template is made of.
fn files() -> Files {
    let mut files = BTreeMap::new();
    for folder in ["", "modules/"] {
        for entry in fs::read_dir(root().join("infra").join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if [".bicep", ".bicepparam", ".json"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                let text = fs::read_to_string(entry.path()).unwrap();
                files.insert(format!("{folder}{name}"), text);
            }
        }
    }
    files
}

#[test]
fn the_templates_are_sound() {
    assert_eq!(problems(&files()), Vec::<String>::new());
}

#[test]
fn every_mistake_is_found() {
    let mut missed = Vec::new();
    for (file, right, wrong, expected) in MISTAKES {
        let mut files = files();
        let text = files.get_mut(*file).unwrap();
        assert!(text.contains(right), "{file} has no {right:?}");
        *text = text.replacen(right, wrong, 1);
        let found = problems(&files);
        if !found.iter().any(|problem| problem.contains(expected)) {
            missed.push(format!(
                "{file}: {right:?} became {wrong:?}, expected {expected:?}, found {found:?}"
            ));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The settings that the templates write are ones that the handler starts with, once Azure has filled in the names.
#[test]
fn the_handler_takes_the_settings_of_the_template() {
    let files = files();
    let app = Template::new("app", &files["modules/app.bicep"]);
    let written = rules::code::settings_written(&app);
    let main = Template::new("main", &files["main.bicep"]);
    let mut nodes = main.tree.walk().into_iter();
    let store = nodes
        .find(|node| node.kind == "object_property" && node.text.starts_with("storeUrl:"))
        .unwrap();
    let store = store.children[1].unquoted();
    for (provider, key) in [("simulated", None), ("stripe", Some("sk_test_1"))] {
        let source = |name: &str| {
            // The platform's own.
            if name == "IDENTITY_ENDPOINT" {
                return Some("http://127.0.0.1:41741/msi/token".to_owned());
            }
            let value = written.get(name)?;
            Some(match name {
                "AZURE_CLIENT_ID" => {
                    assert_eq!(value.text, "identity.properties.clientId");
                    "0199c0de-0000-7000-8000-0000000000c1".to_owned()
                }
                "EVENTGRID_TOPIC_ENDPOINT" => {
                    "https://orderflow-x1.northeurope-1.eventgrid.azure.net/api/events".to_owned()
                }
                "STORE_URL" => filled_in(
                    store,
                    &[
                        "orderflow-x1",
                        "orderflow-x1.postgres.database.azure.com",
                        "orderflow",
                    ],
                ),
                "PAYMENT_PROVIDER" => provider.to_owned(),
                // What the host makes of the reference.
                "STRIPE_API_KEY" => key?.to_owned(),
                _ => value.unquoted().to_owned(),
            })
        };
        let settings = Settings::read(&source).unwrap();
        let StoreUrl::Postgres(address) = &settings.store else {
            panic!("{:?}", settings.store);
        };
        assert!(address.needs_token());
        assert_eq!(settings.payments.name(), provider);
        assert!(settings.topic_key.is_none());
        assert!(
            matches!(&settings.identity, Identity::Managed { client_id: Some(_) }),
            "{:?}",
            settings.identity
        );
    }
}

/// A string with `values` in the place of its interpolations.
fn filled_in(text: &str, values: &[&str]) -> String {
    let mut filled = String::new();
    let mut values = values.iter();
    let mut pieces = text.split("${");
    filled.push_str(pieces.next().unwrap());
    for piece in pieces {
        filled.push_str(values.next().unwrap());
        filled.push_str(piece.split_once('}').unwrap().1);
    }
    assert!(values.next().is_none());
    filled
}
