//! Why a device, or what it gathered about itself, is refused.

use crate::refusal::refusals;

refusals! {
    /// One reason to refuse a device.
    DeviceRefusal:

    EvidenceMalformed { name: String, reason: String }
    "`{name}` in the evidence is not what is gathered under this name: {reason}"
    "The file is undamaged and says something that the kernel, systemd or secaictl never writes there. Whoever gathered it was another program, or another version of ours. Gather it again."

    EvidenceDamaged { name: String }
    "`{name}` in the evidence has other bytes than its list says"
    "The file, or the list beside it, was changed or cut after it was gathered. Gather the evidence again, and copy the folder whole."

    EvidenceAbsent { name: String }
    "`{name}` is not in the evidence, and its list says that it is"
    "The folder was copied in part, or the file was taken out. Gather the evidence again."

    EvidenceForeign { name: String }
    "`{name}` does not belong into evidence"
    "The folder holds something that the format does not name: a link, a folder, or a file of another name. Nothing vouches for it. Gather the evidence into a folder of its own."

    ReleaseRefused { name: String, detail: String }
    "the release that the device is compared with is refused: {name}: {detail}"
    "What should say which files belong on the device is not vouched for by the keys that were given. `verify-release explain` with the name after the second colon says what that means. Take the release from where it was published."

    BootedCommitDiffers { booted: String, named: String }
    "the device runs the commit {booted}, the release names {named}"
    "Another deployment is booted than the one that was to be judged: an older one after a failed update, or one that nobody released. Give the release of the commit that runs, or start the right deployment."

    FileNotAccounted { path: String }
    "`{path}` is on the device, and its bill of materials does not list it"
    "Something lies in the immutable part of the system that no release put there. That is how a planted file looks."

    FileGone { path: String }
    "the bill of materials lists `{path}`, which the device does not have"
    "A file of the release was removed from the immutable part of the system, or something is mounted over it."

    FileChanged { path: String }
    "`{path}` has other content than the bill of materials says"
    "The bytes on the disk are not those that were released. A failing disk changes files too; then the release, deployed again, is whole."

    FileModeChanged { path: String, found: String, named: String }
    "`{path}` has the mode {found}, the bill of materials says {named}"
    "Permission bits were changed after the release was deployed: look for a set-user-ID bit or a writable program."

    FileOwnerChanged { path: String, found: String, named: String }
    "`{path}` belongs to {found}, the bill of materials says {named}"
    "The file's owner or group was changed after the release was deployed."

    LinkTurned { path: String }
    "`{path}` links elsewhere than the bill of materials says"
    "The symbolic link was turned to another target: whoever opens it reaches another file than the one that was released."

    FileAttributesChanged { path: String }
    "`{path}` has other extended attributes than the commit says"
    "Its content, mode and owner are those of the release; something beside them was added or taken away: a capability (setcap) that makes a program more than it was released as, or a list of who may write. Look with `getcap` and `getfattr --dump --match=-`."

    FolderNotAccounted { path: String }
    "the folder `{path}` is on the device, and its commit has none"
    "A folder lies in the immutable part of the system that no release put there. Who made it could put files there as well."

    FolderGone { path: String }
    "the commit has the folder `{path}`, which the device does not have"
    "A folder of the release was removed from the immutable part of the system, or something is mounted over it."

    FolderChanged { path: String, how: String }
    "the folder `{path}` is not as the commit has it: {how}"
    "Who may write into a folder decides what lies in it, whatever the rights of the files are. Rights, owner or attributes were changed after the release was deployed."

    BootFileChanged { path: String }
    "`{path}` is not the kernel or initramfs of this system"
    "What the machine starts is read from /boot, which no signature covers but the kernel's own. This file has other bytes than the one in the system that it belongs to, or belongs to none."

    BootFileGone { path: String }
    "there is no `{path}`, which this system is started from"
    "The kernel or the initramfs of the deployment is not in /boot. The next start takes another deployment, or fails."

    KernelArgumentForeign { place: String, argument: String }
    "{place} has the argument `{argument}`, which neither the image nor the disk sets"
    "Arguments are not signed, and can switch off most of what protects the device, or start something else (init=). Somebody added one in the boot menu, or in /boot/loader/entries."

    KernelArgumentGone { place: String, argument: String }
    "{place} lacks the argument `{argument}`, which the image or the disk sets"
    "Arguments are not signed. One that narrows what the kernel allows was taken away, in the boot menu or in /boot/loader/entries."

    EtcWeakened { path: String, how: String }
    "`{path}` was {how} on this device, and decides what protects it"
    "Settings in /etc may differ from the image's; this one is on the list of those that can switch protection off. Where it was the owner's doing, the device is no longer the one that is claimed about. Restore it from /usr/etc."

    UnitGone { unit: String, state: String }
    "{unit} is {state}, and has to be there"
    "A service, socket or timer of the image is masked, unknown to systemd, or was taken away. What it does is not done."

    UnitReplaced { unit: String, path: String }
    "{unit} is read from `{path}`, not from the image"
    "systemd takes the first file of a name that it finds, and the image's is the last. What runs under the name is something else, with other rights."

    UnitChanged { unit: String, path: String }
    "{unit} is changed by `{path}`, which is not of the image"
    "A drop-in adds to a unit or overrides what it says, its sandbox as well. Remove it, and reload systemd."

    UnitOutdated { unit: String }
    "the files of {unit} say something else than systemd runs it by"
    "A file or drop-in was changed after systemd read it. What runs now is what was read then; what the files say holds from the next start on. Reload systemd and gather the evidence again."

    UnitForeign { unit: String, path: String }
    "{unit} is active, and `{path}` is no file of the image"
    "Something runs that the image does not bring: added in /etc, or started by somebody for the time being (systemd-run)."

    RulesRefused { name: String, detail: String }
    "the rules that are loaded are not those of the profile in force: {name}: {detail}"
    "`verify-release explain` with the name after the first colon says what that means. Apply the profile again; the audit chain says who changed rules."

    RulesNotShipped { profile: String }
    "the image's rules for {profile} are not those that its page means"
    "What is loaded at the start and at a switch is read from this file. It was changed together with what vouches for it, or the image was put together from two."

    PolicyMalformed { path: String, reason: String }
    "`{path}` on the device cannot be used: {reason}"
    "A page of the policy, or a setting of the image, is not what this program reads. It was changed, or belongs to another version."

    SettingDiffers { name: String, found: String, named: String }
    "{name} is {found}, the image sets {named}"
    "A setting of the kernel was changed after the start, or another file overrides the image's. Look into /etc/sysctl.d, and at who has root."

    SwapOn { path: String }
    "memory is written to {path}"
    "The device never writes memory to a disk: what is there could be read after it was switched off. Somebody turned swap on."

    CoresKept { what: String }
    "memory of programs that die can be kept: {what}"
    "What a program had in memory when it crashed holds prompts, keys and whatever else it worked on. The image has the kernel throw it away, and gives it no room."

    KernelNotLocked { found: String }
    "the kernel is not locked down: {found}"
    "Under lockdown not even root changes the running kernel. The argument that asks for it is missing, or the kernel ignores it."
}
