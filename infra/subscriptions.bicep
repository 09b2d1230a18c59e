// One event subscription for each function that takes events. Applied after the code: a subscription is refused while
// its function does not exist.
targetScope = 'resourceGroup'

param appName string
param topicName string

@description('The storage account with the container of dead letters. The topic\'s own identity writes there.')
param filesAccountName string
param deadLetterContainer string = 'dead-letters'

@description('For how many minutes, and how often at most, an event is tried. The schedule between the tries is Event Grid\'s own.')
@minValue(1)
@maxValue(1440)
param timeToLiveMinutes int = 1440

@minValue(1)
@maxValue(30)
param maximumAttempts int = 30

@description('Events in a request. One that fails brings all of its request back, so more than one is for floods.')
@minValue(1)
@maxValue(5000)
param eventsPerRequest int = 1

@minValue(1)
@maxValue(1024)
param kilobytesPerRequest int = 64

// Made from the code by `orderflow check --write`: function, and the event types that it takes.
var functions = loadJsonContent('subscriptions.json')

resource app 'Microsoft.Web/sites@2024-04-01' existing = {
  name: appName
}

resource topic 'Microsoft.EventGrid/topics@2025-02-15' existing = {
  name: topicName
}

resource files 'Microsoft.Storage/storageAccounts@2024-01-01' existing = {
  name: filesAccountName
}

// One after the other: each handshake has to be answered by an app that may be starting.
@batchSize(1)
resource subscriptions 'Microsoft.EventGrid/topics/eventSubscriptions@2025-02-15' = [
  for function in items(functions): {
    parent: topic
    name: function.key
    properties: {
      destination: {
        endpointType: 'AzureFunction'
        properties: {
          resourceId: '${app.id}/functions/${function.key}'
          maxEventsPerBatch: eventsPerRequest
          preferredBatchSizeInKilobytes: kilobytesPerRequest
        }
      }
      eventDeliverySchema: 'CloudEventSchemaV1_0'
      filter: {
        includedEventTypes: function.value.includedEventTypes
      }
      retryPolicy: {
        maxDeliveryAttempts: maximumAttempts
        eventTimeToLiveInMinutes: timeToLiveMinutes
      }
      deadLetterWithResourceIdentity: {
        identity: {
          type: 'SystemAssigned'
        }
        deadLetterDestination: {
          endpointType: 'StorageBlob'
          properties: {
            resourceId: files.id
            blobContainerName: deadLetterContainer
          }
        }
      }
    }
  }
]
