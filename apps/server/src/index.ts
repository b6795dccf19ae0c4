export type { CallerOptions } from './allowed-callers.js';
export type { ApiErrorBody, ErrorStatus } from './api-error.js';
export { ApiError, toApiError } from './api-error.js';
export type { AppDeps } from './app.js';
export { createApp } from './app.js';
export type {
  ChatEngine,
  ChatEvent,
  ChatFinish,
  ChatStatistics,
  EngineState,
  EngineText,
  PreparedChat,
  TextFacts,
  TokenizeOptions,
} from './chat-engine.js';
export type { ChatRequest } from './chat-request.js';
export { parseChatRequest } from './chat-request.js';
export type {
  AskedEffort,
  ChatMessage,
  GenerationRequest,
  MessagesPrompt,
  Prompt,
  ToolCall,
} from './generation-request.js';
export type { ApiKey } from './keys/api-key.js';
export { makeApiKey } from './keys/api-key.js';
export { addApiKey, readApiKeys } from './keys/key-file.js';
export type { ParsedRequest } from './protocol.js';
export type { ReadMap } from './read-map.js';
export type { RequestQueueOptions } from './request-queue.js';
export { defaultQueueOptions, RequestQueue } from './request-queue.js';
export type { ListenOptions, StopSignal } from './running-server.js';
export { isOpenToAll, listen, RunningServer } from './running-server.js';
export type { SessionChatEngineOptions } from './session-chat-engine.js';
export { SessionChatEngine } from './session-chat-engine.js';
export type {
  DocumentSessions,
  Passages,
  SessionInfo,
  SessionKey,
  SessionState,
} from './sessions/document-sessions.js';
export type { SessionStoreOptions } from './sessions/open-sessions.js';
export type { StartServerOptions } from './start-server.js';
export { startServer } from './start-server.js';
