//! What is in an archive, read back.

use std::io::Read as _;

use super::*;

fn members(archive: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

fn image() -> Image {
    let settings = Settings { entrypoint: vec!["/program".to_owned()], ..Settings::default() };
    let mut image = Image::new("heddle/test:1", settings);
    image.put("/etc/deep/file", Entry::Text("content".to_owned(), 0o644));
    image.put("/program", Entry::Text("#!/bin/sh".to_owned(), 0o755));
    image.put("/tmp", Entry::Folder(0o1777));
    image.put("/bin/sh", Entry::Link("busybox".into()));
    image
}

#[test]
fn an_archive_names_its_config_and_its_layer_by_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    image().write(&path).unwrap();
    let found: BTreeMap<String, Vec<u8>> = members(&fs::read(&path).unwrap()).into_iter().collect();
    let manifest: serde_json::Value = serde_json::from_slice(&found["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["heddle/test:1"]));
    let config = &found[manifest[0]["Config"].as_str().unwrap()];
    assert_eq!(manifest[0]["Config"], format!("{}.json", digest(config)));
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    let layer = format!("sha256:{}", digest(&found["layer.tar"]));
    assert_eq!(config["rootfs"]["diff_ids"], json!([layer]));
    assert_eq!(config["config"]["Entrypoint"], json!(["/program"]));
}

#[test]
fn a_layer_has_every_folder_once_and_before_what_is_in_it() {
    let layer = image().layer().unwrap();
    let names: Vec<String> = members(&layer).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["bin", "bin/sh", "etc", "etc/deep", "etc/deep/file", "program", "tmp"]);
}

#[test]
fn capabilities_are_an_attribute_of_the_file_they_are_granted_to() {
    let mut image = image();
    image.grant("/program", "cap_net_admin,cap_net_raw".parse().unwrap());
    let layer = image.layer().unwrap();
    let mut archive = tar::Archive::new(layer.as_slice());
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            found.push((
                path.clone(),
                extension.key().unwrap().to_owned(),
                extension.value_bytes().to_vec(),
            ));
        }
    }
    // CAP_NET_ADMIN is 12, CAP_NET_RAW 13: the bits 0x3000.
    let value = [0, 0, 0, 2, 0, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let key = "SCHILY.xattr.security.capability".to_owned();
    assert_eq!(found, [("program".to_owned(), key, value.to_vec())]);
}

#[test]
fn a_path_that_is_not_absolute_and_a_capability_that_nobody_knows_are_refused() {
    let mut image = image();
    image.put("relative", Entry::Folder(0o755));
    assert!(image.layer().unwrap_err().to_string().contains("relative"));
    let error = "cap_net_admin,cap_everything".parse::<Capabilities>().unwrap_err();
    assert!(error.to_string().contains("cap_everything"), "{error}");
}
