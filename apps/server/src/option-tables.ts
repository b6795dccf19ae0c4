/** What the options of this package take. */
import { kvFormats, type OptionChecks, takes } from '@ctkvr/core';
import type { ListenOptions } from './running-server.js';
import type { StartServerOptions } from './start-server.js';

const count = (min: number) => takes.optional(takes.integer(min, 0x7fff_ffff));

export const listenChecks: OptionChecks<ListenOptions> = {
  host: takes.optional(takes.text),
  port: takes.optional(takes.integer(0, 65_535)),
  maxRunning: count(1),
  maxQueued: count(0),
  maxWaitMs: count(1),
  allowedOrigins: takes.optional(takes.list),
  allowedHosts: takes.optional(takes.list),
  shutdownGraceMs: count(0),
  handleSignals: takes.optional(takes.boolean),
  logger: takes.optional(takes.object),
};

export const startServerChecks: OptionChecks<StartServerOptions> = {
  ...listenChecks,
  model: takes.anything, // a name or a loaded model
  modelName: takes.optional(takes.text),
  contextLength: count(1),
  kvFormat: takes.optional(takes.oneOf(kvFormats)),
  selector: takes.optional(takes.object),
  load: takes.optional(takes.object),
};
