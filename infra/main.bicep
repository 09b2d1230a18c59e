// Everything that Orderflow needs in Azure, except the event subscriptions: those need its functions to exist, and are
// applied after the code (subscriptions.bicep). Nothing in here is a key or a password.
targetScope = 'resourceGroup'

@description('Begins the names of the resources: lower-case letters, digits and hyphens.')
@minLength(2)
@maxLength(32)
param name string

@description('The region. It must offer Flex Consumption: az functionapp list-flexconsumption-locations.')
param location string = resourceGroup().location

@description('Memory of an instance. Orderflow needs few MiB; the CPU that comes with the memory is what counts.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 512

@description('The most instances there may be. Each opens up to three connections to the database.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Instances that are kept warm: group "http" or "function:NAME", and how many.')
param alwaysReady { name: string, instanceCount: int }[] = []

@description('The database server. What it allows of connections grows with its memory.')
param databaseSku { name: string, tier: 'Burstable' | 'GeneralPurpose' | 'MemoryOptimized' } = {
  name: 'Standard_B2s'
  tier: 'Burstable'
}

@description('Whether the database has a standby in another zone, and files are kept in three. Not every region has zones.')
param zoneRedundant bool = false

@description('For how many days the database can be restored to any moment.')
@minValue(7)
@maxValue(35)
param backupRetentionDays int = 7

@description('An Entra group (object id) that administers the database. Without one, the app itself does.')
param databaseAdministratorsId string = ''

@description('The name of that group, as it is to log in.')
param databaseAdministratorsName string = ''

@description('Whether the database is reached over a virtual network only, instead of by whatever runs in Azure.')
param privateNetwork bool = false

@description('Who moves money. For stripe, a key vault is made for STRIPE_API_KEY.')
@allowed(['simulated', 'stripe'])
param paymentProvider string = 'simulated'

@description('For how many days logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Where dead letters go.')
param deadLetterContainer string = 'dead-letters'

var suffix = uniqueString(resourceGroup().id, name)
var unique = '${toLower(name)}-${suffix}'
var vaultName = 'kv-${suffix}'
var administratedByApp = empty(databaseAdministratorsId)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: unique
  location: location
}

module telemetry 'modules/telemetry.bicep' = {
  name: 'telemetry'
  params: {
    name: unique
    location: location
    retentionDays: logRetentionDays
    publisherId: identity.properties.principalId
  }
}

module events 'modules/events.bicep' = {
  name: 'events'
  params: {
    name: unique
    location: location
    senderId: identity.properties.principalId
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    hostAccountName: 'host${suffix}'
    filesAccountName: 'files${suffix}'
    location: location
    deadLetterContainer: deadLetterContainer
    zoneRedundant: zoneRedundant
    appId: identity.properties.principalId
    topicId: events.outputs.principalId
  }
}

module network 'modules/network.bicep' = if (privateNetwork) {
  name: 'network'
  params: {
    name: unique
    location: location
  }
}

module database 'modules/database.bicep' = {
  name: 'database'
  params: {
    name: unique
    location: location
    sku: databaseSku
    zoneRedundant: zoneRedundant
    backupRetentionDays: backupRetentionDays
    subnetId: privateNetwork ? network!.outputs.databaseSubnetId : ''
    dnsZoneId: privateNetwork ? network!.outputs.dnsZoneId : ''
    administrator: {
      id: administratedByApp ? identity.properties.principalId : databaseAdministratorsId
      name: administratedByApp ? identity.name : databaseAdministratorsName
      type: administratedByApp ? 'ServicePrincipal' : 'Group'
    }
  }
}

module vault 'modules/vault.bicep' = if (paymentProvider == 'stripe') {
  name: 'vault'
  params: {
    name: vaultName
    location: location
    readerId: identity.properties.principalId
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
  params: {
    name: unique
    location: location
    identityName: identity.name
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    alwaysReady: alwaysReady
    subnetId: privateNetwork ? network!.outputs.appSubnetId : ''
    hostAccountName: storage.outputs.hostAccountName
    packageContainerUrl: storage.outputs.packageContainerUrl
    insightsName: telemetry.outputs.insightsName
    topicEndpoint: events.outputs.endpoint
    storeUrl: 'postgres://${identity.name}@${database.outputs.host}/${database.outputs.databaseName}'
    paymentProvider: paymentProvider
    vaultName: vaultName
  }
}

// What infra/publish reads: azd keeps outputs as environment variables, and infra/outputs prints them.
output AZURE_RESOURCE_GROUP string = resourceGroup().name
output ORDERFLOW_APP string = app.outputs.name
output ORDERFLOW_TOPIC string = events.outputs.name
output ORDERFLOW_FILES_ACCOUNT string = storage.outputs.filesAccountName
output ORDERFLOW_DEAD_LETTER_CONTAINER string = deadLetterContainer
// What is needed for infra/database-role.sql, and to put Stripe's key where it belongs.
output ORDERFLOW_IDENTITY string = identity.name
output ORDERFLOW_DATABASE_HOST string = database.outputs.host
output ORDERFLOW_VAULT string = paymentProvider == 'stripe' ? vaultName : ''
