import { expect, test, vi } from 'vitest';
import { findProgram, run } from './exec.mjs';

/** @param {string} script */
const node = (script) => ({ command: process.execPath, args: ['-e', script] });

test('exit code and both streams come back', async () => {
  const { code, stdout, output } = await run(node('console.log("out"); console.error("err"); process.exitCode = 3'));
  expect(code).toBe(3);
  expect(stdout).toBe('out\n');
  expect(output).toContain('out');
  expect(output).toContain('err');
});

test('a program that does not exist is code 127, not an exception', async () => {
  expect((await run({ command: '/nonexistent/program', args: [] })).code).toBe(127);
});

test('a program that hangs is stopped, also when its own child keeps the pipes open', async () => {
  const hanging =
    'require("node:child_process").spawn("sleep", ["5"], { stdio: "inherit" }); setInterval(() => {}, 1000)';
  const startedAt = Date.now();
  expect((await run({ ...node(hanging), timeoutMs: 300 })).code).toBe(124);
  expect(Date.now() - startedAt).toBeLessThan(4000);
});

test('what a program has started is stopped with it', async () => {
  const starts =
    'const c = require("node:child_process").spawn("sleep", ["60"]); console.log(c.pid); setInterval(() => {}, 1000)';
  const { stdout } = await run({ ...node(starts), timeoutMs: 500 });
  const pid = Number(stdout);
  expect(pid).toBeGreaterThan(1);
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow('ESRCH'), 4000);
});

test('programs are found on the given PATH only', () => {
  expect(findProgram('sh')).toMatch(/\/sh$/);
  expect(findProgram('sh', { PATH: '/nonexistent' })).toBeNull();
});
