import { ApiError } from './api-error.js';

/** A server runs one model; any other name is a 404 that says which. @throws {ApiError} */
export function checkModel(asked: string | undefined, served: string): void {
  if (asked === undefined || asked === served) return;
  throw new ApiError(404, `The model '${asked}' does not exist here; this server runs '${served}'`, {
    param: 'model',
    code: 'model_not_found',
  });
}
