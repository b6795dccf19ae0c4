export { type DocumentReading, documentKey } from './document-key.js';
export type { SnapshotAbout } from './snapshot-description.js';
export {
  type QuarantinedSnapshot,
  SnapshotStore,
  type SnapshotStoreOptions,
  type StoredSnapshot,
} from './snapshot-store.js';
