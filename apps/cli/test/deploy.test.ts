/**
 * The files that run the server as a service: that they are whole, and agree with the command line. Nothing is built or started here: that needs
 * Docker and root.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { serveCommand } from '../src/commands/serve.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const folder = join(root, 'apps/server/deploy');
const read = (name: string) => readFileSync(join(folder, name), 'utf8');

const flags = serveCommand(async () => {}).options.map(({ long }) => long!);
const variables = new Set([
  ...flags.map((flag) => `CTKVR_${flag.slice(2).toUpperCase().replaceAll('-', '_')}`),
  ...['CTKVR_CACHE_DIR', 'CTKVR_NATIVE_PATH'], // of the model runner and of native
]);

describe('the systemd unit', () => {
  const unit = read('ctkvr.service');
  const verifier = '/usr/bin/systemd-analyze';
  const canVerify = existsSync(verifier) && existsSync('/usr/bin/node');

  it.skipIf(!canVerify)('passes systemd-analyze verify (skipped without it, or without /usr/bin/node)', () => {
    const { status, stderr } = spawnSync(verifier, ['verify', join(folder, 'ctkvr.service')], { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  it('calls serve with flags that it has, and counts its end by SIGTERM as a success', () => {
    const [, args = ''] = /^ExecStart=\/usr\/bin\/node \/opt\/ctkvr\/dist\/bin\.js serve (.*)$/m.exec(unit) ?? [];
    const used = args.match(/--[\w-]+/g) ?? [];
    expect(used).toContain('--config');
    for (const flag of used) expect(flags).toContain(flag);
    expect(unit).toMatch(/^SuccessExitStatus=143$/m);
  });

  it('has no rights but its own', () => {
    for (const setting of [
      'DynamicUser=yes',
      'NoNewPrivileges=yes',
      'ProtectSystem=strict',
      'CapabilityBoundingSet=',
    ]) {
      expect(unit.split('\n')).toContain(setting);
    }
  });
});

describe('the Dockerfile', () => {
  const lines = read('Dockerfile')
    .replaceAll('\\\n', ' ')
    .split('\n')
    .filter((line) => /^[A-Z]/.test(line));
  const stages = lines.filter((line) => line.startsWith('FROM')).map((line) => / AS (\w+)$/.exec(line)?.[1] ?? null);
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith('FROM')));

  it('copies from stages that are there, out of images with a version', () => {
    for (const line of lines.filter((one) => one.startsWith('COPY --from='))) {
      expect(stages).toContain(/--from=(\w+)/.exec(line)![1]);
    }
    for (const line of lines.filter((one) => one.startsWith('FROM'))) expect(line).toMatch(/^FROM \w+:\d[\w.-]*/);
  });

  it('runs what it built, in an image without compilers, not as root', () => {
    expect(stages.at(-1)).toBeNull();
    expect(last.join('\n')).not.toMatch(/apt-get|cargo|g\+\+/);
    const user = last.indexOf('USER node');
    expect(user).toBeGreaterThan(0);
    expect(last.findIndex((line) => line.startsWith('ENTRYPOINT'))).toBeGreaterThan(user);
    // Which would make the shell the process that gets SIGTERM.
    for (const line of last.filter((one) => /^(ENTRYPOINT|CMD) /.test(one))) expect(line).toMatch(/^\w+ \[".*"\]$/);
  });

  it('uses scripts of the repository, and variables that the command line knows', () => {
    for (const [path] of lines.join('\n').matchAll(/packages\/[\w/-]+\.mjs/g)) {
      expect(existsSync(join(root, path)), path).toBe(true);
    }
    for (const [name] of lines.join('\n').matchAll(/CTKVR_\w+/g)) expect(variables).toContain(name);
  });

  it('leaves out what is built, and models', () => {
    expect(read('Dockerfile.dockerignore').split('\n')).toEqual(
      expect.arrayContaining(['**/node_modules', '**/target', '**/dist', '**/*.gguf']),
    );
  });
});

describe('the compose file', () => {
  const { services, secrets, volumes } = parse(read('compose.yaml'));
  const { ctkvr } = services;

  it('builds the Dockerfile from the root of the repository', () => {
    const context = resolve(folder, ctkvr.build.context);
    expect(context).toBe(resolve(root));
    expect(existsSync(join(context, ctkvr.build.dockerfile))).toBe(true);
  });

  it('names secrets, volumes and variables that there are', () => {
    for (const secret of ctkvr.secrets) expect(Object.keys(secrets)).toContain(secret);
    for (const volume of ctkvr.volumes) expect(Object.keys(volumes)).toContain(volume.split(':')[0]);
    for (const name of Object.keys(ctkvr.environment)) expect(variables).toContain(name);
    expect(ctkvr.environment.CTKVR_API_KEY_FILE).toBe(`/run/secrets/${ctkvr.secrets[0]}`);
  });

  it('is reached from this machine only, and may do no more than it must', () => {
    for (const port of ctkvr.ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(ctkvr).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
  });
});
