export type { JsonSchema } from './bounded-schema.js';
export { type ChatMessage, ownTemplateVariables } from './chat-template.js';
export { checkQuestion, commonPrefixLength, documentTurn } from './document-turn.js';
export { Grammar, type GrammarSource, jsonInLark } from './grammar.js';
export { groupSizeOf } from './group-size.js';
export { type LoadModelOptions, loadModel } from './load-model.js';
export type { LogitBias } from './logit-bias.js';
export {
  type AttentionSizes,
  estimateMemory,
  type MemoryEstimate,
  type MemoryEstimateInput,
} from './memory-estimate.js';
export { Model } from './model.js';
export type {
  AskSourcesOptions,
  CatalogueModel,
  DownloadCallbacks,
  DownloadProgress,
  DownloadRequest,
  DownloadSource,
  ExpectedHash,
  HubFile,
  IndexedFile,
  ListedModel,
  ModelSource,
  NpmText,
  NpmTextOptions,
  ResolveModelOptions,
  ZipExtraction,
} from './model-files/index.js';
export {
  askDownloadSources,
  cacheFolder,
  catalogueModelPath,
  DEFAULT_MODEL,
  downloadVerified,
  extractZipEntry,
  findCatalogueModel,
  findIndexedFile,
  hashFile,
  isComplete,
  listModels,
  mobyDickFile,
  modelCatalogue,
  npmTextFile,
  parseHubFile,
  readMobyDick,
  resolveModelFile,
  sha256,
  withFileLock,
  withoutCredentials,
} from './model-files/index.js';
export type { ApplyTemplateOptions, DetokenizeOptions, TokenizeOptions } from './model-text.js';
export type { PromptStoreOptions } from './open-prompt-store.js';
export type { PrefixCacheUsage } from './prefix-cache.js';
export type { PromptInput } from './prompt-plan.js';
export type { AskOptions, BegunAnswer, ReadDocumentOptions } from './read-document.js';
export { ReadDocument } from './read-document.js';
export type { SamplingOptions } from './sampling-options.js';
export { selectorFor } from './selector-for.js';
export { Session } from './session.js';
export type {
  AdmitOptions,
  ForcedOptions,
  ForcedStep,
  ForcedTokens,
  GenerateEvent,
  GenerateFinish,
  GenerateOptions,
  IndexReport,
  PrefillOptions,
  PrefillProgress,
  PrefillResult,
  PrefixCacheUse,
  SelectorChoice,
  SessionOptions,
  TokenStatistics,
} from './session-types.js';
export type {
  DocumentReading,
  QuarantinedSnapshot,
  SnapshotAbout,
  SnapshotStoreOptions,
  StoredSnapshot,
} from './snapshot-store/index.js';
export { documentKey, SnapshotStore } from './snapshot-store/index.js';
