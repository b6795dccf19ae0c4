/** What requests are told when the process of their model is not there. */
import { CtkvrError } from '@ctkvr/core';

/** @param why how it ended, such as a signal. */
export function processLost(model: string, why: string, cause?: unknown): CtkvrError {
  return new CtkvrError(
    'CTKVR_ENGINE_LOST',
    `The process that runs the model '${model}' ended (${why}). It is started again; send the request again.`,
    { fields: { model, why }, cause },
  );
}

export function gaveUp(model: string, numDeaths: number, why: string): CtkvrError {
  return new CtkvrError(
    'CTKVR_ENGINE_FAILED',
    `The process that runs the model '${model}' ended ${numDeaths} times in a row and is not started again. The last time: ${why}.`,
    { fields: { model, numDeaths, why } },
  );
}

export function stopped(model: string): CtkvrError {
  return new CtkvrError('CTKVR_CLOSED', `The model '${model}' is closed.`, { fields: { model } });
}
