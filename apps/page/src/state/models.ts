import { signal } from '@preact/signals';
import { listModels, type ServedModel } from '../server/models.js';

export const models = signal<readonly ServedModel[]>([]);

/** Name of the model that reads new documents, and is asked in chats; '' until the server has told its models. */
export const model = signal('');

export async function loadModels(): Promise<void> {
  models.value = await listModels();
  if (!models.value.some(({ id }) => id === model.value)) model.value = models.value[0]?.id ?? '';
}
