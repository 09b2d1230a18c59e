//! What is shown at the start: what listens where, and where things lie.

use super::{Addresses, DEVELOPMENT_KEY, DevOptions, data_folder::DataFolder};

/// The lines to show. They hold no secret.
pub(super) fn banner(
    options: &DevOptions,
    addresses: &Addresses,
    topics: &[(String, String)],
    folder: &DataFolder,
    dead_letters: &str,
) -> Vec<String> {
    let Addresses { grid, host } = addresses;
    let mut lines = vec![
        "Stand-ins for the Functions host and Event Grid are ready. They are for development only."
            .to_owned(),
        row("Host", host),
    ];
    for function in &options.http_functions {
        let what = format!(
            "{} {host}/api/{}",
            function.methods.join("|"),
            function.route
        );
        lines.push(row(&format!("  {}", function.name), &what));
    }
    let of_functions = options.delivery.subscriptions.is_none();
    for function in options.subscriptions.iter().filter(|_| of_functions) {
        let what = format!("takes {}", event_names(&function.event_types));
        lines.push(row(&format!("  {}", function.function), &what));
    }
    for timer in &options.timers {
        lines.push(row(
            &format!("  {}", timer.function),
            &format!("every {} s", timer.every.as_secs()),
        ));
    }
    let pace = if options.speed > 0.0 {
        format!("its time passes {} times as fast as Azure's", options.speed)
    } else {
        "its time stands still until its clock is turned".to_owned()
    };
    let grid = format!("{grid}/api/events, {pace}");
    lines.push(row("Event Grid", &grid));
    for (name, what) in topics {
        lines.push(row(&format!("  {name}"), what));
    }
    lines.push(row("  live page", &addresses.grid));
    if let Some(file) = &options.delivery.subscriptions {
        lines.push(row("  subscriptions", &file.display().to_string()));
    }
    lines.push(row("  access key", DEVELOPMENT_KEY));
    if options.managed_identity {
        let what = "the handler publishes with tokens from /msi/token";
        lines.push(row("  identity", what));
    }
    lines.push(row("  dead letters", dead_letters));
    if let Some((_, store)) = options
        .environment
        .iter()
        .rev()
        .find(|(name, _)| name == "STORE_URL")
    {
        lines.push(row("Store", &without_credentials(store)));
    }
    lines.push(row(
        "Handler's log",
        &folder.handler_log().display().to_string(),
    ));
    lines
}

fn row(name: &str, what: &str) -> String {
    format!("  {name:<18} {what}")
}

/// The names without their common prefix.
fn event_names(event_types: &[&'static str]) -> String {
    let short = |event_type: &&'static str| event_type.strip_prefix("Sales.").unwrap_or(event_type);
    event_types.iter().map(short).collect::<Vec<_>>().join(", ")
}

/// A store's address without what stands before its host, and without parameters: either may hold a password.
fn without_credentials(store: &str) -> String {
    let Some((scheme, rest)) = store.split_once("://") else {
        return store.to_owned();
    };
    let rest = rest.split_once('?').map_or(rest, |(address, _)| address);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_shown_without_its_password() {
        assert_eq!(
            without_credentials("sqlite:/data/orders.db"),
            "sqlite:/data/orders.db"
        );
        assert_eq!(
            without_credentials("postgres://ada:secret@db:5432/sales"),
            "postgres://db:5432/sales"
        );
        assert_eq!(
            without_credentials("postgres://db/sales?password=secret"),
            "postgres://db/sales"
        );
    }
}
