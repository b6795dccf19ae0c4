import { request } from './request.js';

export interface ServedModel {
  readonly id: string;
  /** Tokens of prompt and answer together; left out until the server has loaded the model. */
  readonly context_length?: number;
}

export async function listModels(): Promise<ServedModel[]> {
  const { data } = (await (await request('/v1/models')).json()) as { data: ServedModel[] };
  return data;
}
