//! Mistakes that somebody might make in `infra/`, one for each thing that is checked there.

/// A mistake: the file, what stands there, what somebody might write instead, and what is said about it.
pub type Mistake = (&'static str, &'static str, &'static str, &'static str);

pub const MISTAKES: &[Mistake] = &[
    // Syntax.
    (
        "main.bicep",
        "param name string\n",
        "param name\n",
        "main.bicep:8: cannot be parsed",
    ),
    (
        "modules/vault.bicep",
        "scope: vault\n",
        "scope: vault }\n",
        "cannot be parsed",
    ),
    (
        "prod.bicepparam",
        "privateNetwork = true",
        "privateNetwork =",
        "prod.bicepparam",
    ),
    // Names.
    (
        "main.bicep",
        "location: location\n    retentionDays",
        "location: region\n    retentionDays",
        "main.bicep:74: nothing is called region",
    ),
    (
        "modules/events.bicep",
        "param location string\n",
        "param location string\nparam sku string\n",
        "modules/events.bicep: sku is not used",
    ),
    (
        "modules/app.bicep",
        "var settings = {",
        "var unused = 1\nvar settings = {",
        "modules/app.bicep: unused is not used",
    ),
    (
        "modules/app.bicep",
        "storeUrl\n  PAYMENT",
        "'postgres'\n  PAYMENT",
        "modules/app.bicep: storeUrl is not used",
    ),
    // What exists in Azure.
    (
        "modules/events.bicep",
        "topics@2025-02-15",
        "topics@2025-02-16",
        "topics@2025-02-16 is not a known resource type",
    ),
    (
        "modules/app.bicep",
        "components@2020-02-02' existing",
        "component@2020-02-02' existing",
        "Microsoft.Insights/component@2020-02-02 is not a known",
    ),
    (
        "modules/storage.bicep",
        "allowSharedKeyAccess",
        "allowSharedKeysAccess",
        "has no properties.allowSharedKeysAccess",
    ),
    (
        "modules/app.bicep",
        "version: '1.0'",
        "versions: '1.0'",
        "has no properties.functionAppConfig.runtime.versions",
    ),
    (
        "subscriptions.bicep",
        "maxDeliveryAttempts",
        "maximumDeliveryAttempts",
        "has no properties.retryPolicy.maximumDeliveryAttempts",
    ),
    (
        "modules/telemetry.bicep",
        "  name: name\n  location: location\n  kind",
        "  name: name\n  kind",
        "insights needs location",
    ),
    (
        "subscriptions.bicep",
        "  name: topicName\n",
        "",
        "topic needs name",
    ),
    (
        "modules/app.bicep",
        "parent: app\n  name: 'appsettings'",
        "parent: app\n  name: app.properties.name",
        "the name is not known before the deployment",
    ),
    // Modules and parameter files.
    (
        "main.bicep",
        "modules/events.bicep",
        "modules/event.bicep",
        "there is no modules/event.bicep",
    ),
    (
        "main.bicep",
        "    senderId: identity.properties.principalId\n",
        "",
        "modules/events.bicep needs the parameter senderId",
    ),
    (
        "main.bicep",
        "    senderId:",
        "    sender: 'x'\n    senderId:",
        "modules/events.bicep has no parameter sender",
    ),
    (
        "main.bicep",
        "events.outputs.endpoint",
        "events.outputs.endpoints",
        "modules/events.bicep has no output endpoints",
    ),
    (
        "main.bicep",
        "network!.outputs.appSubnetId",
        "network!.outputs.subnetId",
        "modules/network.bicep has no output subnetId",
    ),
    (
        "dev.bicepparam",
        "using 'main.bicep'",
        "using 'mian.bicep'",
        "dev.bicepparam: there is no \"mian.bicep\"",
    ),
    (
        "dev.bicepparam",
        "param name",
        "param nmae",
        "main.bicep needs the parameter name",
    ),
    (
        "prod.bicepparam",
        "privateNetwork",
        "privateNetworks",
        "main.bicep has no parameter privateNetworks",
    ),
    (
        "prod.bicepparam",
        "function:billing",
        "function:invoicing",
        "there is no group function:invoicing to keep warm",
    ),
    (
        "prod.bicepparam",
        "function:billing",
        "function:place-order",
        "there is no group function:place-order",
    ),
    // Secrets.
    (
        "modules/storage.bicep",
        "= host.name",
        "= host.listKeys().keys[0].value",
        "the output hostAccountName may be a secret",
    ),
    (
        "modules/storage.bicep",
        "= host.name",
        "= listKeys(host.id, '2024-01-01').keys[0].value",
        "listKeys must not be called",
    ),
    (
        "modules/storage.bicep",
        "= host.name",
        "= listAccountSas(host.id, '2024-01-01', {}).x",
        "listAccountSas must not be called",
    ),
    (
        "modules/telemetry.bicep",
        "output insightsName string = insights.name",
        "output insightsName string = insights.name\noutput connectionString string = insights.id",
        "the output connectionString may be a secret",
    ),
    (
        "modules/telemetry.bicep",
        "= insights.name",
        "= insights.properties.InstrumentationKey",
        "the output insightsName may be a secret",
    ),
    (
        "modules/app.bicep",
        "param vaultName string",
        "param vaultName string\nparam stripeApiKey string",
        "the parameter stripeApiKey may be a secret",
    ),
    (
        "modules/app.bicep",
        "hostAccountName\n  AzureWebJobsStorage__credential",
        "'AccountName=a;AccountKey=b'\n  AzureWebJobsStorage__credential",
        "a secret is written here",
    ),
    (
        "modules/app.bicep",
        "'@Microsoft.KeyVault(",
        "'sk_live_",
        "STRIPE_API_KEY must come from the key vault",
    ),
    // What must stay as it is.
    (
        "modules/events.bicep",
        "disableLocalAuth: true",
        "disableLocalAuth: false",
        "topic.properties.disableLocalAuth must be true, not false",
    ),
    (
        "modules/events.bicep",
        "    disableLocalAuth: true\n",
        "",
        "topic.properties.disableLocalAuth must be true, not nothing",
    ),
    (
        "modules/storage.bicep",
        "allowSharedKeyAccess: false",
        "allowSharedKeyAccess: true",
        "host.properties.allowSharedKeyAccess must be false",
    ),
    (
        "modules/database.bicep",
        "passwordAuth: 'Disabled'",
        "passwordAuth: 'Enabled'",
        "passwordAuth must be 'Disabled'",
    ),
    (
        "modules/app.bicep",
        "name: 'custom'",
        "name: 'node'",
        "runtime.name must be 'custom'",
    ),
    (
        "subscriptions.bicep",
        "eventDeliverySchema: 'CloudEventSchemaV1_0'",
        "eventDeliverySchema: 'EventGridSchema'",
        "eventDeliverySchema must be",
    ),
    (
        "subscriptions.bicep",
        "function.value.includedEventTypes",
        "['Sales.OrderPlaced']",
        "properties.filter.includedEventTypes must be",
    ),
    (
        "subscriptions.bicep",
        "/functions/${function.key}",
        "/functions/orders",
        "destination.properties.resourceId must be",
    ),
    // Roles.
    (
        "roles.json",
        "d5a91429",
        "d5a91428",
        "roles.json: eventGridDataSender is not",
    ),
    (
        "modules/vault.bicep",
        "'Microsoft.Authorization/roleDefinitions', roles.keyVaultSecretsUser",
        "'Microsoft.Authorization/roleDefinitions', '00482a5a-887f-4fb3-b363-3b7fe8e74483'",
        "an id that roles.json does not name",
    ),
    (
        "modules/vault.bicep",
        "roleDefinitions', roles.keyVaultSecretsUser",
        "roleDefinitions', roles.keyVaultAdministrator",
        "roles.json has no keyVaultAdministrator",
    ),
    (
        "modules/storage.bicep",
        "scope: deadLetters",
        "scope: files",
        "topicId must not have storageBlobDataContributor on files",
    ),
    (
        "modules/storage.bicep",
        "scope: packages",
        "scope: deadLetters",
        "appId must not have storageBlobDataContributor on deadLetters",
    ),
    (
        "modules/storage.bicep",
        ", roles.storageTableDataContributor]",
        "]",
        "appId needs storageTableDataContributor on host",
    ),
    (
        "modules/events.bicep",
        "principalId: senderId",
        "principalId: topic.identity.principalId",
        "senderId needs eventGridDataSender on topic",
    ),
    // App settings.
    (
        "modules/app.bicep",
        "  STORE_URL:",
        "  STORE_URI:",
        "nobody reads the app setting STORE_URI",
    ),
    (
        "modules/app.bicep",
        "  STORE_URL:",
        "  STORE_URI:",
        "the app setting STORE_URL is missing",
    ),
    (
        "modules/app.bicep",
        "  AZURE_CLIENT_ID:",
        "  EVENTGRID_TOPIC_KEY:",
        "nobody reads the app setting EVENTGRID_TOPIC_KEY",
    ),
    (
        "modules/app.bicep",
        "  PAYMENT_PROVIDER: paymentProvider\n",
        "  PAYMENT_PROVIDER: paymentProvider\n  FUNCTIONS_WORKER_RUNTIME: 'custom'\n",
        "nobody reads the app setting FUNCTIONS_WORKER_RUNTIME",
    ),
    (
        "modules/app.bicep",
        "  PAYMENT_PROVIDER: paymentProvider\n",
        "  PAYMENT_PROVIDER: paymentProvider\n  WEBSITE_RUN_FROM_PACKAGE: '1'\n",
        "nobody reads the app setting WEBSITE_RUN_FROM_PACKAGE",
    ),
    // The registry.
    (
        "subscriptions.json",
        "      \"Sales.PaymentDeclined\",\n",
        "",
        "subscriptions.json: billing takes other events",
    ),
    (
        "subscriptions.json",
        "\"billing\"",
        "\"invoicing\"",
        "subscriptions.json: invoicing takes no events",
    ),
];
