import { loadDocuments } from './documents.js';
import { loadModels } from './models.js';
import { report } from './notice.js';

/** Asks the server for all that the page shows at first; again once there is a key. */
export async function load(): Promise<void> {
  try {
    await loadModels();
    await loadDocuments();
  } catch (error) {
    report(error);
  }
}
