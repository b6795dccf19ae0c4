export { benchCommand } from './command.js';
export type { BenchModelOptions } from './evaluation-models.js';
export { resolveBenchModel } from './evaluation-models.js';
export type { Machine } from './machine.js';
export { currentCommit, describeMachine } from './machine.js';
export type { BenchShape, ShapeName } from './shapes.js';
export { shapes } from './shapes.js';
export type { BenchResult, BenchRow, PeerTrial } from './suites/result.js';
