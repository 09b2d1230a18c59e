// Small and cheap, and the database is open to what runs in Azure. azd uses this file (azure.yaml).
using 'main.bicep'

param name = readEnvironmentVariable('AZURE_ENV_NAME', 'orderflow-dev')
