export type { ConsoleIo } from './console-io.js';
export { exitCodeOf, exitCodes } from './exit-codes.js';
export type { Interrupt } from './interrupt.js';
export { runCli } from './run-cli.js';
