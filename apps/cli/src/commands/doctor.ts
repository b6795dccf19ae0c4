/** `ctkvr doctor`: whether this machine can run models, what it runs them with, and what to do about what is wrong. */
import { Command } from 'commander';
import { type RunAction, SilentExit } from '../command-context.js';
import { print, printJson } from '../console-io.js';
import { calibrate, describeCalibration } from '../doctor/calibrate.js';
import { describeDiagnosis } from '../doctor/describe-diagnosis.js';
import { examine } from '../doctor/examine.js';
import { exitCodes } from '../exit-codes.js';

export function doctorCommand(run: RunAction): Command {
  return new Command('doctor')
    .description('Examine this machine: processor, memory, engine, cache, network; say what is wrong and what helps')
    .option('--calibrate', 'measure this machine longer, and keep it for `ctkvr plan --host here`', false)
    .option('--json', 'print everything as JSON, for a bug report', false)
    .addHelpText(
      'after',
      '\nTakes some seconds. Exit status 1 when something is found that keeps models from running, else 0.',
    )
    .action((flags: { calibrate: boolean; json: boolean }) =>
      run(async ({ io, signal }) => {
        const diagnosis = await examine(io.env, signal);
        const report = flags.calibrate ? await calibrate(diagnosis) : null;
        if (flags.json) await printJson(io, report === null ? diagnosis : { ...diagnosis, calibration: report });
        else await print(io, describeDiagnosis(diagnosis) + (report === null ? '' : describeCalibration(report)));
        if (!diagnosis.usable) throw new SilentExit(exitCodes.failure);
      }),
    );
}
