import { CtkvrError, checkOption, takes } from '@ctkvr/core';

/** Returns the stop strings as a list. @throws {CtkvrError} CTKVR_INVALID_OPTION for an empty one, which would stop everywhere. */
export function resolveStops(stop: string | readonly string[] | undefined): readonly string[] {
  const stops = stop === undefined ? [] : typeof stop === 'string' ? [stop] : stop;
  checkOption('generate', 'stop', stops, takes.list);
  for (const text of stops) {
    if (typeof text === 'string' && text !== '') continue;
    throw new CtkvrError(
      'CTKVR_INVALID_OPTION',
      `stop must hold texts that are not empty, got ${JSON.stringify(text)}`,
      {
        fields: { option: 'stop', actual: String(text) },
      },
    );
  }
  return stops;
}
