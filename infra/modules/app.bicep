// The function app, on Flex Consumption.
param name string
param location string

@description('The user-assigned identity that the app works with.')
param identityName string

param instanceMemoryMB int
param maximumInstanceCount int
param alwaysReady { name: string, instanceCount: int }[]

@description('The subnet (resource id) that the app reaches the database through, or nothing.')
param subnetId string

param hostAccountName string
param packageContainerUrl string
param insightsName string
param topicEndpoint string
param storeUrl string
param paymentProvider string

@description('The key vault with the secret stripe-api-key; it is read for stripe only.')
param vaultName string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' existing = {
  name: identityName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    keyVaultReferenceIdentity: identity.id
    virtualNetworkSubnetId: empty(subnetId) ? null : subnetId
    siteConfig: {
      minTlsVersion: '1.2'
    }
    functionAppConfig: {
      // A custom handler. Flex Consumption takes the runtime from here and not from app settings.
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identity.id
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        alwaysReady: alwaysReady
      }
    }
  }
}

// The settings replace what is there, so one that is made by hand is lost with the next deployment.
var settings = {
  // The host's own.
  AzureWebJobsStorage__accountName: hostAccountName
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identity.properties.clientId
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identity.properties.clientId};Authorization=AAD'
  // Orderflow's (src/config.rs).
  AZURE_CLIENT_ID: identity.properties.clientId
  EVENTGRID_TOPIC_ENDPOINT: topicEndpoint
  STORE_URL: storeUrl
  PAYMENT_PROVIDER: paymentProvider
}
var stripeSettings = {
  STRIPE_API_KEY: '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=stripe-api-key)'
}

resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: paymentProvider == 'stripe' ? union(settings, stripeSettings) : settings
}

// Code is deployed with a token of Entra ID, too.
resource publishingPasswords 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = [
  for method in ['scm', 'ftp']: {
    parent: app
    name: method
    properties: {
      allow: false
    }
  }
]

output name string = app.name
