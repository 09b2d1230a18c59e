// Warm, private and kept. Each function has instances of its own, so each is kept warm by its own.
using 'main.bicep'

param name = readEnvironmentVariable('AZURE_ENV_NAME', 'orderflow')
param instanceMemoryMB = 2048
param alwaysReady = [
  { name: 'http', instanceCount: 1 }
  { name: 'function:billing', instanceCount: 1 }
  { name: 'function:payment', instanceCount: 1 }
  { name: 'function:inventory', instanceCount: 1 }
  { name: 'function:shipping', instanceCount: 1 }
  { name: 'function:orders', instanceCount: 1 }
]
// It allows 844 connections of users, and 40 instances open 120 at most.
param databaseSku = { name: 'Standard_D2ds_v5', tier: 'GeneralPurpose' }
param zoneRedundant = true
param backupRetentionDays = 35
param databaseAdministratorsId = readEnvironmentVariable('ORDERFLOW_DATABASE_ADMINISTRATORS_ID', '')
param databaseAdministratorsName = readEnvironmentVariable('ORDERFLOW_DATABASE_ADMINISTRATORS_NAME', '')
param privateNetwork = true
param paymentProvider = 'stripe'
param logRetentionDays = 90
