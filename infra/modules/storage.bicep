// Two accounts, both without keys. The Functions host keeps its leases, keys and diagnostics in one, and makes its
// containers itself, for which it needs rights on the whole account. The packages and the dead letters are in the
// other one, where each role ends at a container.
param hostAccountName string
param filesAccountName string
param location string
param deadLetterContainer string

@description('Whether packages and dead letters are kept in three zones instead of one.')
param zoneRedundant bool

@description('The app (object id): the host works with it, and stores packages with it.')
param appId string

@description('The topic (object id), which writes dead letters.')
param topicId string

var roles = loadJsonContent('../roles.json')
var account = {
  minimumTlsVersion: 'TLS1_2'
  supportsHttpsTrafficOnly: true
  allowSharedKeyAccess: false
  allowBlobPublicAccess: false
  defaultToOAuthAuthentication: true
}

resource host 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: hostAccountName
  location: location
  kind: 'StorageV2'
  sku: {
    name: 'Standard_LRS'
  }
  properties: account
}

// Blobs for leases, keys and timers, tables for diagnostic events. None of our triggers needs the host's queues.
var hostRoles = [roles.storageBlobDataOwner, roles.storageTableDataContributor]

resource runHost 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in hostRoles: {
    name: guid(host.id, appId, role)
    scope: host
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', role)
      principalId: appId
      principalType: 'ServicePrincipal'
    }
  }
]

resource files 'Microsoft.Storage/storageAccounts@2024-01-01' = {
  name: filesAccountName
  location: location
  kind: 'StorageV2'
  sku: {
    // A dead letter is the last copy of its event.
    name: zoneRedundant ? 'Standard_ZRS' : 'Standard_LRS'
  }
  properties: account
}

resource blobs 'Microsoft.Storage/storageAccounts/blobServices@2024-01-01' = {
  parent: files
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: 35
    }
  }
}

resource packages 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: 'packages'
}

resource deadLetters 'Microsoft.Storage/storageAccounts/blobServices/containers@2024-01-01' = {
  parent: blobs
  name: deadLetterContainer
}

resource storePackages 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(packages.id, appId, roles.storageBlobDataContributor)
  scope: packages
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataContributor)
    principalId: appId
    principalType: 'ServicePrincipal'
  }
}

resource writeDeadLetters 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(deadLetters.id, topicId, roles.storageBlobDataContributor)
  scope: deadLetters
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roles.storageBlobDataContributor)
    principalId: topicId
    principalType: 'ServicePrincipal'
  }
}

output hostAccountName string = host.name
output filesAccountName string = files.name
output packageContainerUrl string = '${files.properties.primaryEndpoints.blob}${packages.name}'
