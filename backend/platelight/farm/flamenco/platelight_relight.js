// SPDX-License-Identifier: GPL-3.0-or-later
// Flamenco job type: relight a shot in chunks. Put it into the Manager's `scripts` folder.
// The Manager needs the variable {platelight}: the path of the program on the workers (docs/farm.md of Platelight).

const JOB_TYPE = {
  label: "Platelight Relight",
  description: "Put a shot under another light, chunk by chunk; a chunk that is run again skips what is done.",
  settings: [
    { key: "plates", type: "string", required: true, description: "shot.####.exr, with its folder" },
    { key: "light", type: "string", subtype: "file_path", required: true, description: "Lat-long HDRI" },
    { key: "output", type: "string", subtype: "dir_path", required: true, description: "Folder for the results" },
    { key: "frames", type: "string", required: true, description: "Frame range, for example 1001-1200" },
    { key: "chunk_size", type: "int32", default: 50, description: "Frames of one task" },
    { key: "backdrop", type: "string", default: "none", choices: ["none", "plate", "light"] },
    { key: "temporal", type: "string", default: "auto", choices: ["auto", "on", "off"] },
    { key: "device", type: "string", default: "cuda", choices: ["cuda", "cpu"] },
    { key: "wipe", type: "bool", default: true, description: "A before/after movie when all is done" },
  ],
};

function compileJob(job) {
  const settings = job.settings;
  const chunks = frameChunker(settings.frames, settings.chunk_size);
  const relight = chunks.map((chunk) => {
    const task = author.Task(`relight-${chunk}`, "misc");
    task.addCommand(
      author.Command("exec", {
        exe: "{platelight}",
        args: [
          "relight", settings.plates, `--frames=${chunk}`, `--shot=${settings.frames}`, "--light", settings.light,
          "--output", settings.output, "--backdrop", settings.backdrop, "--temporal", settings.temporal,
          "--device", settings.device, "--progress", "lines", "--keep-going",
        ],
      })
    );
    job.addTask(task);
    return task;
  });
  if (!settings.wipe) {
    return;
  }
  const task = author.Task("wipe", "misc");
  task.addCommand(
    author.Command("exec", {
      exe: "{platelight}",
      args: ["view", "wipe", settings.output, "--output", `${settings.output}/wipe.mp4`],
    })
  );
  for (const before of relight) {
    task.addDependency(before);
  }
  job.addTask(task);
}
