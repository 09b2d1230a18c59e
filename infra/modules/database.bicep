// PostgreSQL with tokens of Entra ID instead of passwords.
param name string
param location string
param sku { name: string, tier: string }
param zoneRedundant bool
param backupRetentionDays int

@description('Subnet and private DNS zone (resource ids), or nothing: then whatever runs in Azure may connect, and has to log in.')
param subnetId string
param dnsZoneId string

@description('The one Entra administrator: object id, name to log in as, Group or ServicePrincipal.')
param administrator { id: string, name: string, type: string }

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2024-08-01' = {
  name: name
  location: location
  sku: {
    name: sku.name
    tier: sku.tier
  }
  properties: {
    version: '16'
    authConfig: {
      activeDirectoryAuth: 'Enabled'
      passwordAuth: 'Disabled'
      tenantId: tenant().tenantId
    }
    storage: {
      storageSizeGB: 32
      autoGrow: 'Enabled'
    }
    backup: {
      backupRetentionDays: backupRetentionDays
      geoRedundantBackup: 'Disabled'
    }
    highAvailability: {
      mode: zoneRedundant ? 'ZoneRedundant' : 'Disabled'
    }
    network: empty(subnetId)
      ? {
          publicNetworkAccess: 'Enabled'
        }
      : {
          delegatedSubnetResourceId: subnetId
          privateDnsZoneArmResourceId: dnsZoneId
          publicNetworkAccess: 'Disabled'
        }
  }
}

// The server takes one change at a time, so each of these waits for the one before.
resource database 'Microsoft.DBforPostgreSQL/flexibleServers/databases@2024-08-01' = {
  parent: server
  name: 'orderflow'
  properties: {
    charset: 'UTF8'
    collation: 'en_US.utf8'
  }
}

resource administrators 'Microsoft.DBforPostgreSQL/flexibleServers/administrators@2024-08-01' = {
  parent: server
  name: administrator.id
  properties: {
    principalName: administrator.name
    principalType: administrator.type
    tenantId: tenant().tenantId
  }
  dependsOn: [database]
}

// Azure's way of writing "addresses of Azure": Flex Consumption has no fixed ones.
resource firewall 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2024-08-01' = if (empty(subnetId)) {
  parent: server
  name: 'azure'
  properties: {
    startIpAddress: '0.0.0.0'
    endIpAddress: '0.0.0.0'
  }
  dependsOn: [administrators]
}

output host string = server.properties.fullyQualifiedDomainName
output databaseName string = database.name
